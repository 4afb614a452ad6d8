"""AuraFlow of diffusers: velocities, all gradients, ten steps. What attention makes its feed-forwards read alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import motc
from motc.source import SpecError
from tests.denoisers import (
    DOUBLE,
    Pair,
    assert_parameters_at_published_size,
    assert_same_samples,
    pair,
)
from tests.originals import GALLERY, NothingNarrowed

diffusers = pytest.importorskip("diffusers")

PATH = GALLERY / "auraflow.mot"
SMALL = {
    "width": 24,
    "layers": 4,
    "attention.heads": 3,
    "ffn.hidden": 256,
    "modalities.text.features.size": 10,
    "modalities.image.latent.channels": 3,
    "modalities.image.latent.learned.rows": 6,
}
SIZES = {"sample_size": 8, "in_channels": 3, "out_channels": 3, "num_mmdit_layers": 2, "num_single_dit_layers": 2}
SIZES |= {"attention_head_dim": 8, "num_attention_heads": 3, "joint_attention_dim": 10, "caption_projection_dim": 24}
SIZES |= {"pos_embed_max_size": 36}


@pytest.fixture
def both(tmp_path: Path) -> Pair:
    spec = tmp_path / "small.mot"
    spec.write_text(PATH.read_text().replace("in layers 0..3", "in layers 0..1"))
    theirs = diffusers.AuraFlowTransformer2DModel(**SIZES)
    theirs.time_step_embed.scale = 1  # of times up to 1000, which are not rounded on their way from 1
    return pair(spec, "auraflow", SMALL, theirs)


def predicted(ours: Any, words: Tensor, x: Tensor, times: Tensor) -> Tensor:
    """Behind eight tokens and words."""
    patches = x.shape[2] * x.shape[3] // 4
    of = torch.tensor([0] * 8 + [1] * words.shape[1] + [2] * patches).expand(len(x), -1)
    ids = torch.arange(of.shape[1]).clamp(max=7).expand(len(x), -1)
    given: dict[str, Any] = {"latents": {"image": x}, "timesteps": {"image": times}}
    velocities: Tensor = ours(ids, of, features={"text": words.flatten(0, 1)}, **given).predictions["image"]
    return velocities


def expected(theirs: Any, words: Tensor, x: Tensor, times: Tensor) -> Tensor:
    with NothingNarrowed():
        velocities: Tensor = theirs(x, encoder_hidden_states=words, timestep=times.float()).sample
    return velocities


@pytest.mark.parametrize("height, width", [(8, 8), (6, 12)])
def test_velocities_and_all_gradients(both: Pair, height: int, width: int) -> None:
    words, x = torch.randn(2, 5, 10, dtype=DOUBLE), torch.randn(2, 3, height, width, dtype=DOUBLE)
    times = torch.tensor([3.0, 750.0])
    ours, theirs = predicted(both.ours, words, x, times), expected(both.theirs, words, x, times)
    both.assert_same(ours, theirs)


def test_ten_steps_make_the_same_image(both: Pair) -> None:
    words, noise = torch.randn(2, 5, 10, dtype=DOUBLE), torch.randn(2, 3, 8, 8, dtype=DOUBLE)
    both_ways = partial(predicted, both.ours, words), partial(expected, both.theirs, words)
    assert_same_samples(diffusers.FlowMatchEulerDiscreteScheduler(shift=1.73), *both_ways, noise)


def test_tensors_come_back(both: Pair) -> None:
    both.assert_tensors_come_back()


def test_its_folder_comes_in(both: Pair, tmp_path: Path) -> None:
    both.assert_its_folder_comes_in(tmp_path)


def test_parameters_at_the_published_size() -> None:
    with torch.device("meta"):
        theirs = diffusers.AuraFlowTransformer2DModel()
    assert_parameters_at_published_size(PATH, "auraflow", theirs)


SPEC = """
model around {
  width = 16, layers = 2, vocab = 9
  modality text, image
  attention { heads = 2 }
  residual { around = layer }
  SAID
}
"""


@pytest.mark.parametrize(
    "said, told",
    [
        ("parallel = two_norms", "sublayers in parallel do not read one another"),
        ("layer 1 { ffn = none }", "what attention makes of text is lost in a layer"),
        ("tower picture = image { ffn = none }, untie *", "what attention makes of image is lost in a layer"),
        ("norm { final { kind = none } }", "a final norm of kind none does what a condition says, and there is none"),
        ("norm { final { kind = none, eps = 1e-3 } }", "`eps` says nothing where there is no final norm"),
    ],
)
def test_what_would_be_lost_is_refused(said: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        motc.load(SPEC.replace("SAID", said))
