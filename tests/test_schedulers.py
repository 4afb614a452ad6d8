"""Latents by diffusers' schedulers of every family: what a loop by hand over the reference makes of the noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from motc.driver import compile_ir
from motc.loading import instantiate
from motc.reference import Batch, reference_predictions
from motc.validate.config import reference_config
from motc.validate.random_parameters import randomise

SPEC = """
model scheduled {
  width = 16, layers = 1, vocab = 20
  modality text
  modality image { latent { channels = 2, patch = 2, objective { %s } } }
  attention { heads = 2, mask { bidirectional = image } }
  ffn { hidden = 24 }
  untie attention
}
"""
PREDICTED = {"noise": "epsilon", "velocity": "v_prediction", "sample": "sample"}
STEPS, BEGIN, END = 10, 6, 7
BY_NOISE: dict[str, dict[str, Any]] = {
    "DDPMScheduler": {"clip_sample": False},
    "DDIMScheduler": {"clip_sample": False},
    "PNDMScheduler": {},
    "EulerDiscreteScheduler": {},
    "EulerAncestralDiscreteScheduler": {},
    "HeunDiscreteScheduler": {},
    "KDPM2DiscreteScheduler": {},
    "LMSDiscreteScheduler": {},
    "DPMSolverMultistepScheduler": {},
    "DPMSolverSinglestepScheduler": {},
    "DEISMultistepScheduler": {},
    "UniPCMultistepScheduler": {},
    "LCMScheduler": {},
    "TCDScheduler": {},
}
BY_FLOW: dict[str, dict[str, Any]] = {
    "FlowMatchEulerDiscreteScheduler": {"shift": 3.0},
    "FlowMatchHeunDiscreteScheduler": {},
    "FlowMatchLCMScheduler": {},
    "DPMSolverMultistepScheduler": {"prediction_type": "flow_prediction", "use_flow_sigmas": True},
    "UniPCMultistepScheduler": {"prediction_type": "flow_prediction", "use_flow_sigmas": True},
}


def load(objective: str, folder: Path) -> tuple[Any, Any]:
    path = folder / "scheduled.mot"
    path.write_text(SPEC % objective)
    ir = compile_ir(path)
    module = instantiate(ir, dtype=torch.float64)
    randomise(module, torch.Generator().manual_seed(1))
    return module.eval(), ir


def by_hand(ir: Any, model: Any, scheduler: Any, ids: list[int], generator: torch.Generator) -> Tensor:
    """As diffusers' pipelines loop: the row's tokens, four patches, and no more."""
    config, parameters = reference_config(ir), dict(model.named_parameters())
    scheduler.set_timesteps(STEPS)
    x = torch.randn(1, 2, 4, 4, generator=generator, dtype=torch.float64) * getattr(scheduler, "init_noise_sigma", 1.0)
    drawing = {"generator": generator} if "generator" in scheduler.step.__code__.co_varnames else {}
    for time in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, time) if hasattr(scheduler, "scale_model_input") else x
        batch = Batch(
            input_ids=torch.tensor([[*ids, 0, 0, 0, 0]]),
            modality_ids=torch.tensor([[0] * len(ids) + [1] * 4]),
            latents={"image": seen},
            timesteps={"image": time[None]},
        )
        with torch.no_grad():
            predicted = reference_predictions(config, parameters, batch)["image"]
        x = scheduler.step(predicted, time, x, **drawing).prev_sample
    return x


def generated(model: Any, scheduler: Any, ids: list[int], **more: Any) -> Tensor:
    latents: Tensor = model.generate(
        torch.tensor([ids]),
        torch.zeros(1, len(ids), dtype=torch.int64),
        max_new_tokens=5,
        spans={"image": {"begin": BEGIN, "end": END, "size": (4, 4)}},
        schedulers={"image": scheduler},
        denoising_steps=STEPS,
        seed=3,
        **more,
    ).latents["image"]
    return latents


def assert_alike(found: Tensor, expected: Tensor) -> None:
    assert bool(found.isfinite().all())
    assert (found - expected).abs().max() <= 1e-9 * expected.abs().max()


@pytest.mark.parametrize("family", BY_NOISE)
def test_steps_of_noise_by_every_family(family: str, tmp_path: Path) -> None:
    if family == "LMSDiscreteScheduler":
        pytest.importorskip("scipy")  # which diffusers asks for
    model, ir = load("kind = ddpm", tmp_path)
    said = {"beta_schedule": "squaredcos_cap_v2", **BY_NOISE[family]}
    ours, theirs = (getattr(diffusers, family)(**said) for _ in range(2))
    expected = by_hand(ir, model, theirs, [5, BEGIN], torch.Generator().manual_seed(3))
    assert_alike(generated(model, ours, [5, BEGIN]), expected)


@pytest.mark.parametrize("family", BY_FLOW)
def test_a_flow_by_every_family(family: str, tmp_path: Path) -> None:
    model, ir = load("kind = flow", tmp_path)
    ours, theirs = (getattr(diffusers, family)(**BY_FLOW[family]) for _ in range(2))
    expected = by_hand(ir, model, theirs, [5, BEGIN], torch.Generator().manual_seed(3))
    assert_alike(generated(model, ours, [5, BEGIN]), expected)


@pytest.mark.parametrize("prediction", ["velocity", "sample"])
def test_what_is_predicted_and_its_schedule_are_the_scheduler_s(prediction: str, tmp_path: Path) -> None:
    said = "schedule = scaled_linear, beta_start = 0.00085, beta_end = 0.012"
    model, ir = load(f"prediction = {prediction}, {said}", tmp_path)
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    ours, theirs = (diffusers.EulerDiscreteScheduler(prediction_type=PREDICTED[prediction], **betas) for _ in range(2))
    expected = by_hand(ir, model, theirs, [5, BEGIN], torch.Generator().manual_seed(3))
    assert_alike(generated(model, ours, [5, BEGIN]), expected)


def test_a_shift_by_tokens_is_the_scheduler_s_own(tmp_path: Path) -> None:
    model, _ = load("kind = flow", tmp_path)
    ours = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_image_seq_len=2)
    generated(model, ours, [5, BEGIN])
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    theirs.set_timesteps(STEPS, mu=0.5 + (1.15 - 0.5) * (4 - 2) / (4096 - 2))
    torch.testing.assert_close(ours.timesteps, theirs.timesteps)


@pytest.mark.parametrize(
    ("objective", "scheduler", "message"),
    [
        ("kind = ddpm", diffusers.DDIMScheduler(), "another schedule than its objective: beta_schedule="),
        ("kind = ddpm", diffusers.DDIMScheduler(100), "another schedule than its objective"),
        (
            "prediction = velocity",
            diffusers.DDIMScheduler(beta_schedule="squaredcos_cap_v2"),
            "prediction_type 'epsilon', and what is predicted is 'v_prediction'",
        ),
        ("kind = flow", diffusers.UniPCMultistepScheduler(), "what is predicted is 'flow_prediction'"),
        ("kind = ddpm", diffusers.FlowMatchEulerDiscreteScheduler(), "timesteps its objective has not"),
        ("kind = ddpm", diffusers.EDMEulerScheduler(), "timesteps its objective has not"),
        ("kind = ddpm", diffusers.KarrasVeScheduler(), "does not step by a prediction, a timestep and a sample"),
        ("kind = ddpm", diffusers.ScoreSdeVeScheduler(), "has no `step`"),
        ("kind = flow", object(), "a object, has no `set_timesteps`"),
    ],
)
def test_schedulers_that_will_not_do_are_told(objective: str, scheduler: Any, message: str, tmp_path: Path) -> None:
    model, _ = load(objective, tmp_path)
    with pytest.raises((TypeError, ValueError), match=message):
        generated(model, scheduler, [5, BEGIN])
