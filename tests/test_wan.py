"""The gallery's Wan 2.1 against diffusers' class, three layers for each block: velocities, gradients, ten steps."""

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
    behind_words,
    pair,
    turns_in_float32,
)
from tests.originals import GALLERY, NothingNarrowed

diffusers = pytest.importorskip("diffusers")

PATH = GALLERY / "wan_2_1_14b.mot"
SIZES = {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 3, "out_channels": 3, "num_layers": 2}
SIZES |= {"text_dim": 10, "freq_dim": 8, "ffn_dim": 40, "rope_max_seq_len": 16}
SMALL = {
    "width": 24,
    "layers": 6,
    "attention.heads": 2,
    "ffn.hidden": 40,
    "modalities.text.features.size": 10,
    "modalities.video.latent.channels": 3,
    "modalities.video.condition.timestep.size": 8,
}


@pytest.fixture
def both(tmp_path: Path) -> Pair:
    theirs = diffusers.WanTransformer3DModel(**SIZES)
    theirs.rope.forward = turns
    spec = tmp_path / "small.mot"
    spec.write_text(PATH.read_text().replace("[44, 42, 42]", "[4, 4, 4]"))
    return pair(spec, "wan", SMALL, theirs)


def turns(hidden_states: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine [1, S, 1, 12] of a video's places, each pair's twice, as ours are made."""
    grid = (hidden_states.shape[2], hidden_states.shape[3] // 2, hidden_states.shape[4] // 2)
    places = torch.cartesian_prod(*(torch.arange(side) for side in grid))
    tables = turns_in_float32((4, 4, 4), grid, 10000.0)
    each = torch.cat([table[places[:, axis]] for axis, table in enumerate(tables)], dim=1).repeat_interleave(2, 1)
    return each.real.to(DOUBLE)[None, :, None], each.imag.to(DOUBLE)[None, :, None]


predicted = partial(behind_words, caption="text", made="video")


def expected(theirs: Any, words: Tensor, x: Tensor, times: Tensor) -> Tensor:
    with NothingNarrowed():
        velocities: Tensor = theirs(x, timestep=times, encoder_hidden_states=words).sample
    return velocities


def given() -> tuple[Tensor, Tensor]:
    """Words [2, 5, 10], and noise of a video."""
    return torch.randn(2, 5, 10, dtype=DOUBLE), torch.randn(2, 3, 3, 4, 6, dtype=DOUBLE)


def test_velocities_and_all_gradients(both: Pair) -> None:
    words, x = given()
    times = torch.tensor([3.0, 751.5])
    made, wanted = predicted(both.ours, words, x, times), expected(both.theirs, words, x, times)
    both.assert_same(made, wanted)


def test_ten_steps_make_the_same_video(both: Pair) -> None:
    words, noise = given()
    both_ways = partial(predicted, both.ours, words), partial(expected, both.theirs, words)
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
    )
    assert_same_samples(scheduler, *both_ways, noise)


def test_tensors_come_back(both: Pair) -> None:
    both.assert_tensors_come_back()


def test_its_folder_comes_in(both: Pair, tmp_path: Path) -> None:
    both.assert_its_folder_comes_in(tmp_path)


def test_parameters_at_the_published_size() -> None:
    with torch.device("meta"):
        theirs = diffusers.WanTransformer3DModel()
    assert_parameters_at_published_size(PATH, "wan", theirs)
