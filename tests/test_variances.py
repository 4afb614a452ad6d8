"""Variances that are predicted beside noise: what they cost, what that teaches, and which schedulers take them."""

from __future__ import annotations

from typing import Any, Literal

import diffusers
import pytest
import torch

import motc
from codegen_templates.leading import led
from codegen_templates.objectives import Diffusion
from motc.reference.latents import Noised, ReferenceLatent, ReferenceNoising, bits_of_variances
from motc.validate.random_parameters import randomise

SPEC = """
model variances {
  width = 16, layers = 1
  modality image { latent { channels = 2, patch = 2, objective { variance = learned, schedule = linear } } }
  attention { heads = 2, mask = full }
}
"""
DDPM = {"beta_schedule": "linear", "clip_sample": False}


@pytest.fixture(scope="module")
def model() -> Any:
    model = motc.load(SPEC, dtype=torch.float64)
    randomise(model, torch.Generator().manual_seed(1))
    return model


def given() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2, 4, 4, generator=generator, dtype=torch.float64)
    return torch.zeros(2, 4, dtype=torch.int64), {"image": x}


@pytest.mark.parametrize("prediction", ["noise", "velocity", "sample"])
def test_the_cost_is_what_distributions_of_torch_say(prediction: Literal["noise", "velocity", "sample"]) -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise, predicted, variance = torch.randn(4, 3, 2, 2, 2, generator=generator, dtype=torch.float64)
    clean[0, 0, 0, 0], clean[0, 0, 0, 1] = 1.0, -1.0  # at the first step the ends take all that is beyond them
    predicted[0] = noise[0] + 0.01 * predicted[0] if prediction == "noise" else predicted[0]
    times = torch.tensor([0, 1, 999])
    diffusion = Diffusion(prediction=prediction, schedule="linear", variance="learned")
    noised, target = diffusion.noised(clean, times, noise)
    bound = diffusion.bound(clean, noised, times)
    assert bound is not None
    costs = bound.cost(predicted, variance)
    latent = ReferenceLatent(
        blocks=None,
        channels=2,
        patch=(2, 2),
        objective="ddpm",
        weight=1.0,
        prefix="",
        noising=ReferenceNoising(prediction=prediction, variance="learned", schedule="linear"),
    )
    whole = (slice(None), slice(0, 2), slice(0, 2))
    for place, t in enumerate(times.tolist()):
        span = Noised(noised[place], target[place], torch.ones(2, 2, 2), 8, clean[place], [(whole, t)])
        expected = bits_of_variances(latent, span, predicted[place], variance[place])
        torch.testing.assert_close(costs[place].sum(), expected, rtol=1e-9, atol=1e-9)


def test_the_bound_is_added_and_teaches_variances_alone(model: Any) -> None:
    ids, latents = given()
    noise, times = {"image": torch.randn_like(latents["image"])}, {"image": torch.tensor([3, 700])}
    model.zero_grad()
    losses = model.loss(ids, ids, latents=latents, noise=noise, timesteps=times)
    losses.total.backward()
    decode = model.latents["image"].decode
    plain = motc.load(SPEC.replace("variance = learned, ", ""), dtype=torch.float64)
    halves = {f"latents.image.decode.{kind}": getattr(decode, kind).detach()[:8] for kind in ("weight", "bias")}
    plain.load_state_dict(model.state_dict() | halves)
    fixed: Any = plain.loss(ids, ids, latents=latents, noise=noise, timesteps=times)  # type: ignore[operator]
    fixed.total.backward()
    assert losses.total > fixed.total
    torch.testing.assert_close(decode.bias.grad[:8], plain.latents["image"].decode.bias.grad)  # type: ignore[index,union-attr]
    assert decode.bias.grad[8:].abs().max() > 0


@pytest.mark.parametrize("takes", [True, False])
def test_a_scheduler_takes_variances_or_leaves_them(model: Any, takes: bool) -> None:
    ids, latents = given()
    kind = "learned_range" if takes else "fixed_small"
    scheduler, same = (diffusers.DDPMScheduler(variance_type=kind, **DDPM) for _ in range(2))
    made = model.denoise(
        ids,
        ids,
        noise=latents,
        schedulers={"image": scheduler},
        denoising_steps=3,
        seed=torch.Generator().manual_seed(2),
    )
    x, generator = latents["image"], torch.Generator().manual_seed(2)
    same.set_timesteps(3)
    for time in same.timesteps:
        with torch.no_grad():
            predicted = model(ids, ids, latents={"image": x}, timesteps={"image": time.expand(2)}).predictions["image"]
        assert predicted.shape == (2, 4, 4, 4)
        x = same.step(predicted if takes else predicted[:, :2], time, x, generator=generator).prev_sample
    torch.testing.assert_close(made["image"], x, rtol=0, atol=1e-12)


def test_what_leads_latents_leaves_their_variances() -> None:
    predicted, other = torch.randn(2, 2, 4, 3, dtype=torch.float64)
    away = led(predicted, other, 3.0, renorm=False, variances=True)
    torch.testing.assert_close(away[:, :2], other[:, :2] + 3 * (predicted - other)[:, :2])
    assert torch.equal(away[:, 2:], predicted[:, 2:])


def test_a_scheduler_that_needs_variances_is_refused_where_there_are_none() -> None:
    ids, latents = given()
    plain: Any = motc.load(SPEC.replace("variance = learned, ", ""), dtype=torch.float64)
    scheduler = diffusers.DDPMScheduler(variance_type="learned_range", **DDPM)
    with pytest.raises(ValueError, match="takes variances that are learned, and none are predicted"):
        plain.denoise(ids, ids, noise=latents, schedulers={"image": scheduler})
