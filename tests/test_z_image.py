"""The gallery's Z-Image against the class of diffusers: velocities of captioned images, and all gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.denoisers import (
    DOUBLE,
    Pair,
    assert_parameters_at_published_size,
    assert_same_samples,
    captioned,
    pair,
    turns_in_float32,
)
from tests.originals import GALLERY, NothingNarrowed

diffusers = pytest.importorskip("diffusers")

PATH = GALLERY / "z_image.mot"
WORDS = 32
"""And so many patches: the class fills sequences up to multiples of it with tokens that attention sees."""
SMALL = {
    "width": 128,
    "layers": 5,
    "attention.heads": 1,
    "ffn.hidden": 341,
    "modalities.caption.features.size": 10,
    "modalities.image.latent.channels": 3,
    "modalities.image.condition.width": 128,
}


@pytest.fixture
def both() -> Pair:
    """Theirs with angles in float32, as ours are: it has them in float64."""
    theirs = diffusers.ZImageTransformer2DModel(
        in_channels=3, dim=128, n_layers=1, n_heads=1, n_kv_heads=1, cap_feat_dim=10
    )
    rope = theirs.rope_embedder
    rope.freqs_cis = turns_in_float32(rope.axes_dims, rope.axes_lens, rope.theta)
    return pair(PATH, "z_image", SMALL, theirs)


def predictions(both: Pair, x: Tensor, times: Tensor, captions: Tensor) -> tuple[Tensor, Tensor]:
    """Of ours and theirs, for latents [B, 3, 16, 8] at times [B] in 0..1 with captions [B, 32, 10]."""
    modality_ids, positions = captioned([WORDS] * len(x), 8, 4)
    positions[..., 0] += 1
    given: dict[str, Any] = {"latents": {"image": x}, "timesteps": {"image": 1000 * times}}
    given["features"] = {"caption": captions.flatten(0, 1)}
    ours = both.ours(modality_ids, modality_ids, position_ids=positions, **given)
    with NothingNarrowed():
        theirs = both.theirs(list(x[:, :, None]), times, list(captions)).sample
    return ours.predictions["image"], torch.stack(theirs)[:, :, 0]


def test_predictions_and_all_gradients(both: Pair) -> None:
    x, captions = torch.randn(2, 3, 16, 8, dtype=DOUBLE), torch.randn(2, WORDS, 10, dtype=DOUBLE)
    made, expected = predictions(both, x, torch.tensor([0.25, 0.75]), captions)
    both.assert_same(made, expected)


def test_ten_steps_make_the_same_sample(both: Pair) -> None:
    """As its pipeline does: times are those of data, and what is predicted goes from noise to data."""
    x, captions = torch.randn(1, 3, 16, 8, dtype=DOUBLE), torch.randn(1, WORDS, 10, dtype=DOUBLE)

    def velocities(side: int) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x, t: -predictions(both, x, 1 - t / 1000, captions)[side]

    assert_same_samples(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), velocities(0), velocities(1), x)


def test_its_folder_comes_in(both: Pair, tmp_path: Path) -> None:
    both.assert_its_folder_comes_in(tmp_path)


def test_parameters_at_the_published_size() -> None:
    """But for the tokens that fill sequences up."""
    with torch.device("meta"):
        theirs = diffusers.ZImageTransformer2DModel()
    assert_parameters_at_published_size(PATH, "z_image", theirs, unread=2 * 3840)
