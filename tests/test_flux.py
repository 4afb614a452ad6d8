"""The gallery's FLUX.1 dev and schnell against diffusers' class: velocities, all gradients, ten steps."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.denoisers import (
    DOUBLE,
    Pair,
    assert_parameters_at_published_size,
    assert_same_samples,
    pair,
    turns_in_float32,
)
from tests.originals import GALLERY

diffusers = pytest.importorskip("diffusers")

SMALL = {
    "width": 32,
    "layers": 4,
    "attention.heads": 2,
    "ffn.hidden": 128,
    "modalities.text.features.size": 12,
    "modalities.image.latent.channels": 3,
    "modalities.image.condition.vector.size": 10,
}
SPECS = {"flux_1_dev": True, "flux_1_schnell": False}
"""Whether it is told how strong guidance is."""

Given = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(params=SPECS)
def both(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """Two layers of each kind; turns are made and taken as in ours, which the class has in two other precisions."""
    sizes = {"num_layers": 2, "num_single_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16}
    sizes |= {"in_channels": 12, "joint_attention_dim": 12, "pooled_projection_dim": 10}
    theirs = diffusers.FluxTransformer2DModel(guidance_embeds=SPECS[request.param], axes_dims_rope=(4, 6, 6), **sizes)
    theirs.pos_embed.forward = turns
    monkeypatch.setattr("diffusers.models.transformers.transformer_flux.apply_rotary_emb", turned)
    text = (GALLERY / f"{request.param}.mot").read_text()
    for old, new in (("layers 19..56", "layers 2..3"), ("layers 0..18", "layers 0..1"), ("16, 56, 56", "4, 6, 6")):
        assert old in text
        text = text.replace(old, new)
    spec = tmp_path / "small.mot"
    spec.write_text(text)
    return pair(spec, "flux_1", SMALL, theirs)


def turns(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine [S, 16] of places [S, 3], each pair's twice."""
    tables = turns_in_float32((4, 6, 6), (9, 9, 9), 10000.0)
    each = torch.cat([table[ids[:, axis].long()] for axis, table in enumerate(tables)], dim=1).repeat_interleave(2, 1)
    return each.real.to(DOUBLE), each.imag.to(DOUBLE)


def turned(x: Tensor, turns: tuple[Tensor, Tensor], sequence_dim: int) -> Tensor:
    """Queries or keys [B, S, heads, d], each pair of components by its turn, in their own dtype."""
    assert sequence_dim == 1
    cos, sin = (each[:, None] for each in turns)
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    return x * cos + torch.stack((-second, first), dim=-1).flatten(-2) * sin


def given(height: int, width: int) -> Given:
    """Words [2, 5, 12], pooled ones [2, 10], and noise of an image."""
    return (
        torch.randn(2, 5, 12, dtype=DOUBLE),
        torch.randn(2, 10, dtype=DOUBLE),
        torch.randn(2, 3, height, width).double(),
    )


GUIDANCE = torch.tensor([3.5, 1.25], dtype=DOUBLE)


def predicted(ours: Any, words: Tensor, pooled: Tensor, x: Tensor, times: Tensor) -> Tensor:
    """Our velocities of images [B, 3, h, w] behind their words."""
    ids = torch.tensor([0] * words.shape[1] + [1] * (x.shape[2] // 2 * (x.shape[3] // 2))).expand(len(x), -1)
    told = {"vector": pooled} | ({"number": GUIDANCE} if ours.conditions["image"].number is not None else {})
    besides: dict[str, Any] = {"features": {"text": words.flatten(0, 1)}, "conditions": {"image": told}}
    velocities: Tensor = ours(ids, ids, latents={"image": x}, timesteps={"image": times}, **besides).predictions[
        "image"
    ]
    return velocities


def expected(theirs: Any, words: Tensor, pooled: Tensor, x: Tensor, times: Tensor) -> Tensor:
    """The class's, which is given patches of all channels, their places, and times up to 1."""
    height, width = x.shape[2] // 2, x.shape[3] // 2
    places = torch.cartesian_prod(torch.tensor([0]), torch.arange(height), torch.arange(width))
    ids = {"img_ids": places, "txt_ids": torch.zeros(words.shape[1], 3)}
    told = {"pooled_projections": pooled, "guidance": GUIDANCE if theirs.config.guidance_embeds else None}
    patches = F.unfold(x, 2, stride=2).mT
    out = theirs(patches, encoder_hidden_states=words, timestep=times.to(DOUBLE) / 1000, **told, **ids).sample
    return F.fold(out.mT, (x.shape[2], x.shape[3]), 2, stride=2)


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


def test_tensors_come_back(both: Pair) -> None:
    both.assert_tensors_come_back()


def test_its_folder_comes_in(both: Pair, tmp_path: Path) -> None:
    both.assert_its_folder_comes_in(tmp_path)


@pytest.mark.parametrize("name", SPECS)
def test_parameters_at_the_published_size(name: str) -> None:
    with torch.device("meta"):
        theirs = diffusers.FluxTransformer2DModel(guidance_embeds=SPECS[name])
    assert_parameters_at_published_size(GALLERY / f"{name}.mot", "flux_1", theirs)
