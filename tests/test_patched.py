"""Latents of several sizes in a batch, and those whose frames or tokens have timesteps and roles of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

import motc
from codegen_templates.times import SqrtShift, Times, Uniform
from motc.reference.times import ReferenceTimes, drawn_times
from motc.source import SpecError
from motc.validate.random_parameters import randomise
from tests.planted import broken, report

IMAGES = """
model images {
  width = 16, layers = 2, vocab = 20
  modality text
  modality image {
    latent { channels = 2, patch = 2, objective = flow, sine { } }
    positions { kind = grid }
  }
  attention { heads = 2, mask { bidirectional = image, hide_noised = image }, rope { sections = [2, 2] } }
  ffn { hidden = 24 }
  untie attention
}
"""
VIDEO = """
model video {
  width = 16, layers = 2
  modality video {
    latent { channels = 2, patch = [1, 2, 1], objective = flow, time = none }
    condition { timestep { size = 8 }, label { count = 3 } }
  }
  attention { heads = 2, mask = full }
  ffn { hidden = 24 }
  norm { adaptive = video }
}
"""
IDS = torch.tensor([[0, 1, 1, 0, 1, 1, 1, 1, 0, 0]])
TIMES = torch.tensor([100.0, 500.0], dtype=torch.float64)


def load(text: str, folder: Path) -> Any:
    path = folder / "spec.mot"
    path.write_text(text)
    module = motc.load(path, dtype=torch.float64)
    randomise(module, torch.Generator().manual_seed(1))
    return module


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.laws
def test_every_law_holds_where_frames_are_adaptive() -> None:
    verdict = report(VIDEO)
    assert verdict.ok, verdict


@pytest.mark.laws
def test_a_timestep_of_another_moment_is_found() -> None:
    assert broken(IMAGES, "values[latents.moments]", "values[latents.moments.flip(0)]")


def test_a_list_of_one_size_is_the_tensor(tmp_path: Path) -> None:
    model, ids = load(IMAGES, tmp_path), torch.tensor([[0, 1, 1, 0, 1, 1]])
    x, noise = drawn(2, 2, 4, 2), drawn(2, 2, 4, 2, seed=1)
    one, other = (model(ids, ids, latents={"image": each}, timesteps={"image": TIMES}) for each in (x, list(x)))
    torch.testing.assert_close(other.logits, one.logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.stack(other.predictions["image"]), one.predictions["image"], rtol=0, atol=1e-12)
    given = {"timesteps": {"image": TIMES}}
    losses = [
        model.loss(ids, ids, latents={"image": a}, noise={"image": b}, **given)
        for a, b in ((x, noise), (list(x), list(noise)))
    ]
    torch.testing.assert_close(losses[0].total, losses[1].total, rtol=0, atol=1e-12)


def test_images_of_several_sizes_say_what_each_says_alone(tmp_path: Path) -> None:
    model = load(IMAGES, tmp_path)
    small, large = drawn(2, 4, 2).requires_grad_(), drawn(2, 4, 4)
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1, 1]])
    given = {"latents": {"image": [small, large]}, "timesteps": {"image": TIMES}}
    both = model(IDS, IDS, document_ids=documents, **given).predictions["image"]
    for x, t, ids, mine in ((small, TIMES[:1], IDS[:, :3], both[0]), (large, TIMES[1:], IDS[:, 3:], both[1])):
        alone = model(ids, ids, latents={"image": x[None]}, timesteps={"image": t}).predictions["image"][0]
        torch.testing.assert_close(mine, alone, rtol=0, atol=1e-12)
    both[0].square().sum().backward()
    assert small.grad is not None and small.grad.abs().min() > 0


def test_a_loss_is_over_all_numbers_and_draws_for_each_span(tmp_path: Path) -> None:
    model = load(IMAGES, tmp_path)
    latents = {"image": [drawn(2, 4, 2), drawn(2, 4, 4)]}
    clean = {"image": torch.tensor([True, False])}
    losses = model.loss(IDS, IDS, latents=latents, clean=clean, generator=torch.Generator().manual_seed(3))
    again = model.loss(IDS, IDS, latents=latents, clean=clean, generator=torch.Generator().manual_seed(3))
    assert losses.total == again.total and int(losses.weights["image"]) == 32
    assert int(model.count(IDS, IDS, latents=latents, clean=clean)["image"]) == 32
    times = Times(Uniform(), shift=SqrtShift(4))
    each, few, many = (
        times.draw(2, tokens, torch.Generator().manual_seed(0), torch.device("cpu")) for tokens in ((4, 64), 4, 64)
    )
    torch.testing.assert_close(each, torch.stack((few[0], many[1])))


def test_a_clean_first_frame_is_seen_and_not_learnt(tmp_path: Path) -> None:
    model, ids = load(VIDEO, tmp_path), torch.zeros(2, 6, dtype=torch.int64)
    x, noise = drawn(2, 2, 3, 2, 2), drawn(2, 2, 3, 2, 2, seed=1)
    clean = {"video": torch.tensor([[True, False, False]] * 2)}
    given: dict[str, Any] = {"conditions": {"video": {"label": torch.tensor([0, 2])}}}
    losses = model.loss(
        ids, ids, latents={"video": x}, noise={"video": noise}, timesteps={"video": TIMES}, clean=clean, **given
    )
    sigma = (TIMES[:, None] * ~clean["video"]) / 1000
    shown = x + sigma[:, None, :, None, None] * (noise - x)
    out = model(ids, ids, latents={"video": shown}, timesteps={"video": 1000 * sigma}, **given)
    errors = (out.predictions["video"] - (noise - x)).square()[:, :, 1:]
    torch.testing.assert_close(losses.total, errors.mean(), rtol=0, atol=1e-12)
    assert int(losses.weights["video"]) == errors.numel()
    same = [
        model(ids, ids, latents={"video": x}, timesteps={"video": t}, **given).predictions["video"]
        for t in (TIMES, TIMES[:, None].expand(2, 3), TIMES[:, None].expand(2, 6))
    ]
    torch.testing.assert_close(same[1], same[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(same[2], same[0], rtol=0, atol=1e-12)


def test_a_video_is_made_behind_its_first_frame(tmp_path: Path) -> None:
    model, ids = load(VIDEO, tmp_path), torch.zeros(2, 6, dtype=torch.int64)
    x, noise, first = drawn(2, 2, 3, 2, 2), drawn(2, 2, 3, 2, 2, seed=1), torch.tensor([[True, False, False]] * 2)
    given: dict[str, Any] = {"conditions": {"video": {"label": torch.tensor([0, 2])}}, "clean": {"video": first}}
    made = model.denoise(
        ids,
        ids,
        latents={"video": x},
        noise={"video": noise},
        schedulers={"video": FlowMatchEulerDiscreteScheduler(1000)},
        denoising_steps=3,
        **given,
    )["video"]
    scheduler, stays, y = FlowMatchEulerDiscreteScheduler(1000), first[:, None, :, None, None], noise
    scheduler.set_timesteps(3)
    with torch.no_grad():
        for t in scheduler.timesteps:
            shown, times = torch.where(stays, x, y), t * ~first
            out = model(ids, ids, latents={"video": shown}, timesteps={"video": times}, **given)
            y = scheduler.step(out.predictions["video"], t, y).prev_sample
    torch.testing.assert_close(made, torch.where(stays, x, y), rtol=0, atol=1e-6)
    assert torch.equal(made[:, :, 0], x[:, :, 0])


def test_times_are_drawn_for_each_frame(tmp_path: Path) -> None:
    """As they are given, drawn as the reference does, and the noise after them."""
    shift = "shift_by_tokens { kind = sqrt, base_tokens = 3 }"
    said = f"objective = flow, times {{ kind = logit_normal, each = frame, {shift} }}"
    model, ids = load(VIDEO.replace("objective = flow", said), tmp_path), torch.zeros(2, 6, dtype=torch.int64)
    x, given = drawn(2, 2, 3, 2, 2), {"conditions": {"video": {"label": torch.tensor([0, 2])}}}
    losses = model.loss(ids, ids, latents={"video": x}, generator=torch.Generator().manual_seed(5), **given)
    generator = torch.Generator().manual_seed(5)
    times = model.objectives["video"].times.draw(6, 6, generator, torch.device("cpu"))
    wanted = ReferenceTimes(kind="logit_normal", shift="sqrt", points=((3, 0.0), (6, 0.0)))
    torch.testing.assert_close(times, drawn_times(wanted, 6, 6, seed=5))
    patches = torch.randn(12, 4, generator=generator, dtype=torch.float64)
    noise = model.latents["video"].put_together(patches, 2, (3, 1, 2))
    timesteps = {"video": (1000 * times).view(2, 3)}
    expected = model.loss(ids, ids, latents={"video": x}, timesteps=timesteps, noise={"video": noise}, **given)
    torch.testing.assert_close(losses.total, expected.total, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("latent", "message"),
    [
        ("channels = 2, patch = 2, times { each = frame }", "frames are along the first of three axes"),
        ("channels = 2, patch = 2, ends = unet, times { each = token }", "a U-Net is told one timestep of a span"),
    ],
)
def test_times_that_cannot_be_drawn_so_are_told(latent: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        motc.load(IMAGES.replace("channels = 2, patch = 2, objective = flow, sine { }", latent))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"latents": [drawn(2, 4, 2)] * 2}, "spans of image have other numbers of tokens than the patches of their"),
        ({"latents": [drawn(2, 4, 2), drawn(2, 3, 4)]}, "latents 1 of image is 3 x 4: no multiple of 2"),
        ({"latents": [drawn(2, 4, 2), drawn(4, 4)]}, r"latents 1 of image must be \[2, height, width\], not \[4, 4\]"),
        ({"latents": [drawn(2, 4, 2), 3]}, "latents 1 of image must be a tensor, not int"),
        ({"latents": "image"}, "latents of image must be a tensor, not str"),
        ({"timesteps": TIMES[:1]}, "timesteps of image must be tensors, one a span, or a token, for 2 spans, not 1"),
        ({"timesteps": [TIMES[0], TIMES[:1].expand(3)]}, r"and \[3\] fits no span of 2 x 2"),
        ({"timesteps": None}, "latents of image need timesteps"),
        ({"timesteps": TIMES + 501}, "timesteps of image must be 0..1000; 1 are not"),
        ({"clean": [torch.tensor(True), torch.tensor([0, 0, 0, 1])]}, "clean of image must be torch.bool"),
        ({"noise": [drawn(2, 4, 2)] * 2}, "noise of image must be as its latents"),
    ],
)
def test_what_does_not_fit_is_told(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = load(IMAGES, tmp_path)
    given = {"latents": [drawn(2, 4, 2), drawn(2, 4, 4)], "timesteps": TIMES, **given}
    by_name = {key: {"image": value} for key, value in given.items() if value is not None}
    call = model.loss if "noise" in given else model
    with pytest.raises((ValueError, TypeError), match=message):
        call(IDS, IDS, **by_name)


def test_a_unet_takes_one_size(tmp_path: Path) -> None:
    model = load(IMAGES.replace("sine { }", "ends = unet, unet { channels = 4, blocks = 1 }"), tmp_path)
    latents = {"image": [drawn(2, 4, 2), drawn(2, 4, 4)]}
    with pytest.raises(ValueError, match="latents of image go through a U-Net, which takes those of one size"):
        model(IDS, IDS, latents=latents, timesteps={"image": TIMES})
