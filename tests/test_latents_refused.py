"""What generating latents refuses: schedulers, spans, prompts and masks that do not fit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.test_generate_latents import STEPS, denoised_plainly, load, scheduler_of
from tests.test_latents import LINEAR

diffusers = pytest.importorskip("diffusers")

PREFIX = """
model prefixed {
  width = 32, layers = 2, vocab = 40
  modality text, speech
  modality image { latent { channels = 3, patch = 2 } }
  attention { heads = 4, rope = none, mask { kind = prefix, prefix = text, bidirectional = image } }
  ffn { hidden = 24 }
}
"""
SPAN = {"begin": 6, "end": 7, "size": (2, 4)}
FLOW = diffusers.FlowMatchEulerDiscreteScheduler(1000)
RIGHT = {"spans": {"image": SPAN}, "denoising_steps": STEPS, "max_new_tokens": 4}


class Losing:
    """A scheduler that loses all numbers."""

    timesteps = torch.tensor([900])

    def set_timesteps(self, steps: int, device: torch.device) -> None:
        del steps, device

    def step(self, prediction: Tensor, time: Tensor, sample: Tensor) -> Any:
        del prediction, time
        return SimpleNamespace(prev_sample=sample / 0)


class Vague(Losing):
    """A scheduler whose timesteps are no numbers."""

    timesteps = torch.tensor([torch.nan])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"schedulers": {}}, "needs a scheduler"),
        ({"schedulers": {"picture": FLOW}}, "'picture' is no continuous modality"),
        ({"schedulers": {"image": FLOW}}, "timesteps its objective has not: it has 0..999"),
        ({"schedulers": {"image": Losing()}}, "infinite numbers or NaN"),
        ({"denoising_steps": 0}, "must be positive"),
        ({"spans": {"image": {"begin": 6, "end": 7, "length": 2}}}, "needs begin, end and size"),
        ({"spans": {"image": {"begin": 6, "size": (2, 4)}}}, "needs begin, end and size"),
        ({"spans": {"image": {**SPAN, "size": (2, 3)}}}, "size 2 x 3: no multiple of its patch, 2"),
        ({"spans": {"image": {**SPAN, "size": (0, 2)}}}, "no multiple"),
        ({"spans": {"image": {**SPAN, "within": "image"}}}, "within another modality"),
        ({"spans": {"image": {**SPAN, "end": 40}}}, "text has no token 40"),
        ({"stop": {"image": [1]}}, "'image' is no modality of this model's tokens: text"),
        ({"latents": {"image": torch.zeros(1, 3, 2, 4)}}, "0 spans of image"),
        ({"latents": {"text": torch.zeros(1, 3, 2, 4)}}, "'text' is no continuous modality"),
    ],
)
def test_bad_arguments_are_told(how: dict[str, Any], said: str, tmp_path: Path) -> None:
    model = load(tmp_path, LINEAR)
    right = {**RIGHT, "schedulers": {"image": scheduler_of(model, "image")}}
    with pytest.raises(ValueError, match=said):
        model.generate(torch.tensor([[5, 6]]), torch.tensor([[0, 0]]), **{**right, **how})


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"latents": [torch.zeros(1, 3, 2, 4)]}, "latents must be a dict of tensors by modality, not list"),
        ({"latents": {"image": [1.0]}}, "latents of image must be a tensor, not list"),
        ({"schedulers": [FLOW]}, "schedulers must be a dict by the names of modalities"),
        ({"denoising_steps": 2.0}, r"denoising_steps must be a whole number, not 2\.0"),
        (
            {"spans": {"image": {**SPAN, "size": (2, 4.0)}}},
            r"must be a whole number, not 4\.0",
        ),
        ({"spans": {"image": {**SPAN, "size": 2}}}, r"needs its size as \(height, width\), not 2"),
        ({"spans": {"image": 2}}, "the span of image must be a dict"),
    ],
)
def test_arguments_of_other_types_are_told(how: dict[str, Any], said: str, tmp_path: Path) -> None:
    model = load(tmp_path, LINEAR)
    right = {**RIGHT, "schedulers": {"image": scheduler_of(model, "image")}}
    with pytest.raises(TypeError, match=said):
        model.generate(torch.tensor([[5, 6]]), torch.tensor([[0, 0]]), **{**right, **how})


def test_bad_prompts_are_told(tmp_path: Path) -> None:
    model = load(tmp_path, LINEAR)
    ids, modality_ids = torch.zeros(1, 3).long(), torch.tensor([[0, 1, 1]])
    with pytest.raises(ValueError, match="ends with latents of image, and no token"):
        model.generate(ids, modality_ids, latents={"image": torch.zeros(1, 3, 2, 4)}, max_new_tokens=2)
    right = {**RIGHT, "schedulers": {"image": scheduler_of(model, "image")}}
    with pytest.raises(ValueError, match="infinite or NaN"):
        model.generate(ids, modality_ids, latents={"image": torch.full((1, 3, 2, 4), torch.nan)}, **right)


def test_latents_of_the_prefix_are_for_prompts_only(tmp_path: Path) -> None:
    both = PREFIX.replace("prefix = text", "prefix = [text, image]")
    how = {
        **RIGHT,
        "schedulers": {"image": diffusers.DDIMScheduler(1000, beta_schedule="squaredcos_cap_v2", clip_sample=False)},
    }
    ids = torch.tensor([[5, 6]])
    with pytest.raises(ValueError, match="image belongs to the prefix"):
        load(tmp_path, both).generate(ids, ids * 0, **how)
    model = load(tmp_path, PREFIX)
    generated = model.generate(ids, ids * 0, **how)
    assert generated.modality_ids.tolist() == [[2, 2, 0, 0]]
    noise = torch.randn(1, 3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole, of = torch.tensor([[5, 6, 0, 0]]), torch.tensor([[0, 0, 2, 2]])
    expected = denoised_plainly(model, "image", whole, of, [], noise)
    torch.testing.assert_close(generated.latents["image"], expected, rtol=0, atol=1e-12)
