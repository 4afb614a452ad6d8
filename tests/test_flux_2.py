"""The gallery's FLUX.2 dev and klein against diffusers' class: velocities, all gradients, ten steps."""

from __future__ import annotations

from functools import partial
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
    pair,
    turns_in_float32,
)
from tests.originals import GALLERY
from tests.test_flux import turned

diffusers = pytest.importorskip("diffusers")

SMALL = {
    "width": 32,
    "layers": 4,
    "attention.heads": 2,
    "ffn.hidden": 96,
    "modalities.text.features.size": 12,
    "modalities.image.latent.channels": 6,
}
SPECS = {
    "flux_2_dev": (("8..55", "2..3"), ("0..7", "0..1")),
    "flux_2_klein_4b": (("5..24", "2..3"), ("0..4", "0..1")),
}
"""Which layers are made which, two of each kind."""
PUBLISHED: dict[str, dict[str, Any]] = {
    "flux_2_dev": {},
    "flux_2_klein_4b": {
        "num_layers": 5,
        "num_single_layers": 20,
        "num_attention_heads": 24,
        "joint_attention_dim": 7680,
        "guidance_embeds": False,
    },
}


@pytest.fixture(params=SPECS)
def both(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """Turns are made and taken as in ours, which the class has in two other precisions."""
    sizes = {"num_layers": 2, "num_single_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16}
    sizes |= {"in_channels": 6, "joint_attention_dim": 12}
    told = request.param == "flux_2_dev"
    theirs = diffusers.Flux2Transformer2DModel(axes_dims_rope=(4, 4, 4, 4), guidance_embeds=told, **sizes)
    theirs.pos_embed.forward = turns
    monkeypatch.setattr("diffusers.models.transformers.transformer_flux2.apply_rotary_emb", turned)
    text = (GALLERY / f"{request.param}.mot").read_text()
    double, single = SPECS[request.param]
    for old, new in (double, single, ("32, 32, 32, 32", "4, 4, 4, 4")):
        assert old in text
        text = text.replace(old, new)
    spec = tmp_path / "small.mot"
    spec.write_text(text)
    return pair(spec, "flux_2", SMALL, theirs)


def turns(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine [S, 16] of places [S, 4], each pair's twice."""
    tables = turns_in_float32((4, 4, 4, 4), (9, 9, 9, 9), 2000.0)
    each = torch.cat([table[ids[:, axis].long()] for axis, table in enumerate(tables)], dim=1).repeat_interleave(2, 1)
    return each.real.to(DOUBLE), each.imag.to(DOUBLE)


def places(words: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Those of words, which are on the last of four axes, and of an image, on the two between."""
    nowhere = torch.tensor([0])
    text = torch.cartesian_prod(nowhere, nowhere, nowhere, torch.arange(words.shape[1]))
    return text, torch.cartesian_prod(nowhere, torch.arange(x.shape[2]), torch.arange(x.shape[3]), nowhere)


GUIDANCE = torch.tensor([3.5, 1.25], dtype=DOUBLE)


def predicted(ours: Any, words: Tensor, x: Tensor, times: Tensor) -> Tensor:
    """Our velocities of images [B, 6, h, w] behind their words."""
    ids = torch.tensor([0] * words.shape[1] + [1] * (x.shape[2] * x.shape[3])).expand(len(x), -1)
    told = {"number": GUIDANCE} if ours.conditions["image"].number is not None else {}
    besides: dict[str, Any] = {"features": {"text": words.flatten(0, 1)}, "conditions": {"image": told}}
    besides["position_ids"] = torch.cat(places(words, x)).expand(len(x), -1, -1)
    out = ours(ids, ids, latents={"image": x}, timesteps={"image": times}, **besides)
    velocities: Tensor = out.predictions["image"]
    return velocities


def expected(theirs: Any, words: Tensor, x: Tensor, times: Tensor) -> Tensor:
    """The class's, which is given times up to 1."""
    text, image = places(words, x)
    guidance = GUIDANCE if theirs.config.guidance_embeds else None
    out = theirs(
        x.flatten(2).mT,
        encoder_hidden_states=words,
        timestep=times.to(DOUBLE) / 1000,
        guidance=guidance,
        img_ids=image,
        txt_ids=text,
    ).sample
    velocities: Tensor = out.mT.unflatten(2, x.shape[2:])
    return velocities


def given(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Words [2, 5, 12], and noise of an image."""
    return torch.randn(2, 5, 12, dtype=DOUBLE), torch.randn(2, 6, height, width, dtype=DOUBLE)


def test_velocities_and_all_gradients(both: Pair) -> None:
    words, x = given(3, 4)
    times = torch.tensor([3.0, 751.5])
    ours, theirs = predicted(both.ours, words, x, times), expected(both.theirs, words, x, times)
    both.assert_same(ours, theirs)


def test_ten_steps_make_the_same_image(both: Pair) -> None:
    words, noise = given(4, 4)
    both_ways = partial(predicted, both.ours, words), partial(expected, both.theirs, words)
    assert_same_samples(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), *both_ways, noise)


def test_tensors_come_back(both: Pair) -> None:
    both.assert_tensors_come_back()


def test_its_folder_comes_in(both: Pair, tmp_path: Path) -> None:
    both.assert_its_folder_comes_in(tmp_path)


@pytest.mark.parametrize("name", SPECS)
def test_parameters_at_the_published_size(name: str) -> None:
    with torch.device("meta"):
        theirs = diffusers.Flux2Transformer2DModel(**PUBLISHED[name])
    assert_parameters_at_published_size(GALLERY / f"{name}.mot", "flux_2", theirs)
