"""The gallery's Stable Diffusion 3 and 3.5 Large against diffusers' class: velocities, all gradients, ten steps."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from motc.weights import tensors_of
from tests.denoisers import (
    DOUBLE,
    Pair,
    assert_parameters_at_published_size,
    assert_same_samples,
    captioned,
    norms_in_full,
    pair,
)
from tests.originals import GALLERY

diffusers = pytest.importorskip("diffusers")

SMALL = {
    "width": 16,
    "layers": 3,
    "attention.heads": 2,
    "ffn.hidden": 64,
    "modalities.text.features.size": 12,
    "modalities.image.latent.channels": 4,
    "modalities.image.latent.sine.base": 4,
    "modalities.image.latent.sine.crop": 6,
    "modalities.image.condition.vector.size": 10,
}
LAST = {"sd3_medium": 23, "sd3_5_large": 37}
QK_NORM = {"sd3_medium": None, "sd3_5_large": "rms_norm"}


def original(name: str, **sizes: Any) -> Any:
    return diffusers.SD3Transformer2DModel(qk_norm=QK_NORM[name], **sizes)


@pytest.fixture(params=LAST)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    heads: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 8, "caption_projection_dim": 16}
    sizes = {"sample_size": 8, "in_channels": 4, "out_channels": 4, "pos_embed_max_size": 6, "num_layers": 3}
    theirs = original(request.param, joint_attention_dim=12, pooled_projection_dim=10, **sizes, **heads)
    text, last = (GALLERY / f"{request.param}.mot").read_text(), f"layer {LAST[request.param]} "
    assert last in text
    spec = tmp_path / "small.mot"
    spec.write_text(text.replace(last, "layer 2 "))
    made = pair(spec, "sd3", SMALL, theirs)
    norms_in_full(made.theirs)
    return made


def given(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Words [2, 5, 12], pooled ones [2, 10], and noise of an image."""
    return (
        torch.randn(2, 5, 12, dtype=DOUBLE),
        torch.randn(2, 10, dtype=DOUBLE),
        torch.randn(2, 4, height, width).double(),
    )


def predicted(ours: Any, words: Tensor, pooled: Tensor, x: Tensor, times: Tensor) -> Tensor:
    """Our velocities of images [B, 4, h, w] behind their words."""
    modality_ids, _ = captioned([words.shape[1]] * len(x), x.shape[2] // 2, x.shape[3] // 2)
    besides: dict[str, Any] = {"features": {"text": words.flatten(0, 1)}, "conditions": {"image": {"vector": pooled}}}
    out = ours(modality_ids, modality_ids, latents={"image": x}, timesteps={"image": times}, **besides)
    velocities: Tensor = out.predictions["image"]
    return velocities


def expected(theirs: Any, words: Tensor, pooled: Tensor, x: Tensor, times: Tensor) -> Tensor:
    velocities: Tensor = theirs(x, encoder_hidden_states=words, pooled_projections=pooled, timestep=times).sample
    return velocities


@pytest.mark.parametrize("width", [8, 12])
def test_velocities_and_all_gradients(both: Pair, width: int) -> None:
    words, pooled, x = given(8, width)
    times = torch.tensor([3.0, 751.5])
    ours, theirs = predicted(both.ours, words, pooled, x, times), expected(both.theirs, words, pooled, x, times)
    both.assert_same(ours, theirs)


def test_ten_steps_make_the_same_image(both: Pair) -> None:
    words, pooled, noise = given(8, 8)
    both_ways = partial(predicted, both.ours, words, pooled), partial(expected, both.theirs, words, pooled)
    assert_same_samples(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), *both_ways, noise)


def test_tensors_come_back_but_for_those_that_nothing_reads(both: Pair) -> None:
    theirs = dict(both.theirs.named_parameters())
    back = tensors_of(both.bijection, both.ours.state_dict())
    assert all(torch.equal(theirs[name], tensor) for name, tensor in back.items())
    unread = {name.rpartition(".")[0] for name in theirs.keys() - back.keys()}
    assert unread - {"transformer_blocks.2.attn.norm_added_q"} == {"transformer_blocks.2.attn.add_q_proj"}


def test_its_folder_comes_in(both: Pair, tmp_path: Path) -> None:
    both.assert_its_folder_comes_in(tmp_path)


@pytest.mark.parametrize("name", LAST)
def test_parameters_at_the_published_size(name: str) -> None:
    heads = {"sd3_medium": 24, "sd3_5_large": 38}[name]
    width = 64 * heads
    with torch.device("meta"):
        sizes: dict[str, Any] = {"num_layers": heads, "num_attention_heads": heads, "caption_projection_dim": width}
        sizes |= {"joint_attention_dim": 4096, "pooled_projection_dim": 2048, "pos_embed_max_size": 192}
        theirs = original(name, **sizes)
    unread = width * width + width + (64 if QK_NORM[name] else 0)  # the queries of words in the last layer
    assert_parameters_at_published_size(GALLERY / f"{name}.mot", "sd3", theirs, unread)
