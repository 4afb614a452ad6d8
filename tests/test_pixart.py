"""PixArt of diffusers, said by three layers for each of its blocks: noise predicted, all gradients, ten steps."""

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
)
from tests.originals import GALLERY

diffusers = pytest.importorskip("diffusers")

PATH = GALLERY / "pixart_sigma.mot"
SMALL = {
    "width": 24,
    "layers": 6,
    "attention.heads": 3,
    "ffn.hidden": 96,
    "modalities.caption.features.size": 10,
    "modalities.image.latent.sine.base": 4,
}
SIZES = {"num_attention_heads": 3, "attention_head_dim": 8, "num_layers": 2, "sample_size": 8}
SIZES |= {"caption_channels": 10, "cross_attention_dim": 24}


class Drawing:
    """A scheduler that draws the same at each denoising."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    def set_timesteps(self, steps: int) -> None:
        self.scheduler.set_timesteps(steps)
        self.timesteps, self.generator = self.scheduler.timesteps, torch.Generator().manual_seed(4)

    def step(self, *given: Any, **more: Any) -> Any:
        return self.scheduler.step(*given, generator=self.generator, **more)


@pytest.fixture
def both(tmp_path: Path) -> Pair:
    theirs = diffusers.PixArtTransformer2DModel(**SIZES)
    return pair(PATH, "pixart", SMALL, theirs)


predicted = partial(behind_words, caption="caption", made="image")


def expected(theirs: Any, words: Tensor, x: Tensor, times: Tensor) -> Tensor:
    noise: Tensor = theirs(x, encoder_hidden_states=words, timestep=times).sample
    return noise


@pytest.mark.parametrize("height, width", [(8, 8), (4, 12)])
def test_noise_and_all_gradients(both: Pair, height: int, width: int) -> None:
    words, x = torch.randn(2, 5, 10, dtype=DOUBLE), torch.randn(2, 4, height, width, dtype=DOUBLE)
    times = torch.tensor([1, 750])
    made, wanted = predicted(both.ours, words, x, times), expected(both.theirs, words, x, times)
    both.assert_same(made, wanted)


def test_ten_steps_make_the_same_image(both: Pair) -> None:
    words, noise = torch.randn(2, 5, 10, dtype=DOUBLE), torch.randn(2, 4, 8, 8, dtype=DOUBLE)
    both_ways = partial(predicted, both.ours, words), partial(expected, both.theirs, words)
    scheduler = diffusers.DDPMScheduler(beta_schedule="linear", clip_sample=False, variance_type="learned_range")
    assert_same_samples(Drawing(scheduler), *both_ways, noise)


def test_tensors_come_back(both: Pair) -> None:
    both.assert_tensors_come_back()


def test_its_folder_comes_in(both: Pair, tmp_path: Path) -> None:
    both.assert_its_folder_comes_in(tmp_path)


def test_parameters_at_the_published_size() -> None:
    with torch.device("meta"):
        theirs = diffusers.PixArtTransformer2DModel(
            sample_size=128,
            caption_channels=4096,
            cross_attention_dim=1152,
            use_additional_conditions=False,
        )
    assert_parameters_at_published_size(PATH, "pixart", theirs)
