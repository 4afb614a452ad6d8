"""CogView3-Plus and CogView4 of diffusers, which share all but modulations: velocities, all gradients, ten steps."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor

from tests.denoisers import (
    DOUBLE,
    Pair,
    assert_parameters_at_published_size,
    assert_same_samples,
    pair,
    turns_in_float32,
)
from tests.originals import GALLERY, NothingNarrowed

diffusers = pytest.importorskip("diffusers")

SPECS = {"cogview3_plus_3b": "cogview3_plus", "cogview4_6b": "cogview4"}
"""Each spec's mapping."""
CLASSES = {
    "cogview3_plus_3b": diffusers.CogView3PlusTransformer2DModel,
    "cogview4_6b": diffusers.CogView4Transformer2DModel,
}
SCHEDULERS = {
    "cogview3_plus_3b": partial(
        diffusers.CogVideoXDDIMScheduler, snr_shift_scale=4.0, prediction_type="v_prediction", clip_sample=False
    ),
    "cogview4_6b": partial(diffusers.FlowMatchEulerDiscreteScheduler, shift=3.0),
}
PUBLISHED = {
    "cogview3_plus_3b": {},
    "cogview4_6b": {"num_layers": 28, "num_attention_heads": 32, "attention_head_dim": 128},
}
SIZES = {"in_channels": 3, "out_channels": 3, "num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2}
SIZES |= {"text_embed_dim": 10, "time_embed_dim": 12, "condition_dim": 4, "pos_embed_max_size": 8, "sample_size": 8}
SMALL = {
    "width": 16,
    "layers": 2,
    "attention.heads": 2,
    "attention.head_dim": 8,
    "ffn.hidden": 64,
    "modalities.text.features.size": 10,
    "modalities.image.latent.channels": 3,
    "modalities.image.condition.width": 12,
    "modalities.image.condition.timestep.size": 16,
    "modalities.image.condition.vector.size": 24,
}
GIVEN = torch.tensor([[64, 48, 64, 64, 0, 8], [32, 48, 64, 64, 4, 0]])
"""Of two images: sizes before, sizes wanted, and what was cut off."""


@pytest.fixture(params=SPECS)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    name: str = request.param
    spec = tmp_path / "small.mot"
    spec.write_text((GALLERY / f"{name}.mot").read_text().replace("[64, 64]", "[4, 4]"))
    more = {"rope_axes_dim": (8, 8)} if name == "cogview4_6b" else {}
    small = {key: value for key, value in SMALL.items() if not more or "head_dim" not in key}
    theirs = CLASSES[name](**SIZES, **more)
    if more:
        theirs.rope.forward = turns
    return pair(spec, SPECS[name], small, theirs)


def places(height: int, width: int) -> Tensor:
    """Those of an image's patches, which are spread over 8 x 8."""
    return torch.cartesian_prod(torch.arange(height) * 8 // height, torch.arange(width) * 8 // width)


def turns(hidden_states: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine [S, 8], each pair's twice, as ours are made."""
    where = places(hidden_states.shape[2] // 2, hidden_states.shape[3] // 2)
    tables = turns_in_float32((4, 4), (8, 8), 10000.0)
    each = torch.cat([table[where[:, axis]] for axis, table in enumerate(tables)], dim=1).repeat(1, 2)
    return each.real.to(DOUBLE), each.imag.to(DOUBLE)


def predicted(ours: Any, words: Tensor, x: Tensor, times: Tensor) -> Tensor:
    patches = (x.shape[2] // 2, x.shape[3] // 2)
    ids = torch.tensor([0] * words.shape[1] + [1] * (patches[0] * patches[1])).expand(len(x), -1)
    before, wanted, cut = GIVEN.chunk(3, dim=1)
    vector = get_timestep_embedding(torch.cat((before, cut, wanted), dim=1).flatten(), 4, True, 0)
    given: dict[str, Any] = {"features": {"text": words.flatten(0, 1)}}
    given |= {"conditions": {"image": {"vector": vector.view(2, -1)}}, "latents": {"image": x}}
    if ours_rotates(ours):
        where = torch.cat((torch.zeros(words.shape[1], 2, dtype=torch.int64), places(*patches)))
        given["position_ids"] = where.expand(len(x), -1, -1)
    velocities: Tensor = ours(ids, ids, timesteps={"image": times}, **given).predictions["image"]
    return velocities


def expected(theirs: Any, words: Tensor, x: Tensor, times: Tensor) -> Tensor:
    before, wanted, cut = GIVEN.chunk(3, dim=1)
    with NothingNarrowed():
        velocities: Tensor = theirs(x, words, times, original_size=before, target_size=wanted, crop_coords=cut).sample
    return velocities


def test_velocities_and_all_gradients(both: Pair) -> None:
    words, x = torch.randn(2, 5, 10, dtype=DOUBLE), torch.randn(2, 3, 8, 6, dtype=DOUBLE)
    times = torch.tensor([3, 751])
    ours, theirs = predicted(both.ours, words, x, times), expected(both.theirs, words, x, times)
    both.assert_same(ours, theirs)
    both.assert_tensors_come_back()


def test_ten_steps_make_the_same_image(both: Pair) -> None:
    words, noise = torch.randn(2, 5, 10, dtype=DOUBLE), torch.randn(2, 3, 8, 8, dtype=DOUBLE)
    both_ways = partial(predicted, both.ours, words), partial(expected, both.theirs, words)
    name = "cogview4_6b" if ours_rotates(both.ours) else "cogview3_plus_3b"
    assert_same_samples(SCHEDULERS[name](), *both_ways, noise)


def ours_rotates(ours: Any) -> bool:
    """Whether it is CogView4, whose images are placed by rotary positions."""
    return ours.latents["image"].table is None


def test_its_folder_comes_in(both: Pair, tmp_path: Path) -> None:
    both.assert_its_folder_comes_in(tmp_path)


@pytest.mark.parametrize("name", SPECS)
def test_parameters_at_the_published_size(name: str) -> None:
    with torch.device("meta"):
        theirs = CLASSES[name](**PUBLISHED[name])
    assert_parameters_at_published_size(GALLERY / f"{name}.mot", SPECS[name], theirs)
