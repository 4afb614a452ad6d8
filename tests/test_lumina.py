"""The gallery's Lumina 2 against the class of diffusers: velocities of captioned images, and all gradients."""

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

PATH = GALLERY / "lumina_2.mot"
SMALL = {
    "width": 192,
    "layers": 6,
    "attention.heads": 2,
    "attention.kv_heads": 1,
    "ffn.hidden": 24,
    "modalities.caption.features.size": 10,
    "modalities.image.latent.channels": 3,
    "modalities.image.condition.width": 192,
}
SIZES = {
    "hidden_size": 192,
    "num_layers": 2,
    "num_attention_heads": 2,
    "num_kv_heads": 1,
    "multiple_of": 8,
    "ffn_dim_multiplier": 1 / 32,
    "cap_feat_dim": 10,
    "in_channels": 3,
}


@pytest.fixture
def both() -> Pair:
    """Theirs with angles in float32, as ours are: it has them in float64."""
    theirs = diffusers.Lumina2Transformer2DModel(**SIZES)
    rope = theirs.rope_embedder
    rope.freqs_cis = turns_in_float32(rope.axes_dim, rope.axes_lens, rope.theta)
    return pair(PATH, "lumina_2", SMALL, theirs)


def predictions(both: Pair, x: Tensor, times: Tensor, captions: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Of ours and theirs, for latents [B, 3, h, w] at times [B] with captions [B, longest, 10] of these lengths."""
    modality_ids, positions = captioned(lengths, x.shape[2] // 2, x.shape[3] // 2)
    given: dict[str, Any] = {"latents": {"image": x}, "timesteps": {"image": times}}
    given["features"] = {"caption": torch.cat([each[:n] for each, n in zip(captions, lengths, strict=True)])}
    ours = both.ours(modality_ids, modality_ids, position_ids=positions, **given)
    real = torch.arange(captions.shape[1]) < torch.tensor(lengths)[:, None]
    with NothingNarrowed():
        theirs = both.theirs(x, times, captions, real).sample
    return ours.predictions["image"], theirs


def test_predictions_and_all_gradients(both: Pair) -> None:
    x, captions = torch.randn(2, 3, 4, 6, dtype=DOUBLE), torch.randn(2, 5, 10, dtype=DOUBLE)
    made, expected = predictions(both, x, torch.tensor([0.25, 0.75]), captions, [5, 3])
    both.assert_same(made, expected)


def test_ten_steps_make_the_same_sample(both: Pair) -> None:
    """As its pipeline does: times are those of data, and what is predicted goes from noise to data."""
    x, captions = torch.randn(1, 3, 4, 4, dtype=DOUBLE), torch.randn(1, 4, 10, dtype=DOUBLE)

    def velocities(side: int) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x, t: -predictions(both, x, 1 - t / 1000, captions, [4])[side]

    assert_same_samples(diffusers.FlowMatchEulerDiscreteScheduler(shift=6.0), velocities(0), velocities(1), x)


def test_its_folder_comes_in(both: Pair, tmp_path: Path) -> None:
    both.assert_its_folder_comes_in(tmp_path)


def test_parameters_at_the_published_size() -> None:
    with torch.device("meta"):
        theirs = diffusers.Lumina2Transformer2DModel(cap_feat_dim=2304)
    assert_parameters_at_published_size(PATH, "lumina_2", theirs)
