"""What latents learn: how times are drawn, what is noised and predicted, and what errors count, beside diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import (
    compute_density_for_timestep_sampling,
    compute_loss_weighting_for_sd3,
    compute_snr,
)
from torch import Tensor

import motc
from codegen_templates.objectives import Diffusion, RectifiedFlow
from motc.diff import diff
from motc.driver import compile_ir
from motc.ir.identity import semantic_hash
from motc.reference import ReferenceTimes, drawn_times
from motc.source import SpecError
from tests.planted import report

SPEC = """
model denoised {
  width = 16, layers = 1, vocab = 20
  modality text
  modality image { latent { channels = 2, patch = 2, %s } }
  attention { heads = 2, mask { bidirectional = image } }
  ffn { hidden = 24 }
}
"""
FLOW, DDPM = "objective = flow", "objective = ddpm"
EXPONENTIAL = "shift_by_tokens { kind = exponential, base_tokens = 4, max_tokens = 64 }"
TIMES = {
    "": ReferenceTimes(),
    "times { low = 0.25, high = 0.5 }": ReferenceTimes(low=0.25, high=0.5),
    "times = logit_normal": ReferenceTimes(kind="logit_normal"),
    "times { kind = logit_normal, mean = -0.5, std = 2, shift = 3 }": ReferenceTimes(
        kind="logit_normal", mean=-0.5, std=2.0, shift=3.0
    ),
    "times = mode": ReferenceTimes(kind="mode"),
    "times { kind = mode, scale = 0.5 }": ReferenceTimes(kind="mode", scale=0.5),
    "times { kind = beta, low = 0.001 }": ReferenceTimes(kind="beta", low=0.001),
    "times { kind = beta, alpha = 2, beta = 3 }": ReferenceTimes(kind="beta", alpha=2.0, beta=3.0),
    "times { shift_by_tokens { kind = sqrt, base_tokens = 4 } }": ReferenceTimes(
        shift="sqrt", points=((4, 0.0), (5, 0.0))
    ),
    f"times {{ {EXPONENTIAL} }}": ReferenceTimes(shift="exponential", points=((4, 0.5), (64, 1.15))),
}
"""What a spec says of times, and the same for the reference."""
OBJECTIVES = [
    "objective { prediction = velocity, schedule = linear }, weighting = snr",
    "objective { prediction = sample, schedule = scaled_linear, beta_start = 0.00085, beta_end = 0.012 }",
    "objective { prediction = noise, schedule = linear }, weighting { kind = min_snr, gamma = 3 }",
    "objective { prediction = sample }, weighting = min_snr",
    "objective { prediction = velocity }, weighting = min_snr",
    "objective = flow, weighting = sigma_sqrt",
    "objective = flow, weighting = cosmap",
]


def written(said: str, folder: Path) -> Path:
    path = folder / "denoised.mot"
    path.write_text(SPEC % said)
    return path


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids and modalities of two rows with an image of four patches each, clean latents and noise."""
    modality_ids = torch.tensor([[0, 0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 0, 0]])
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 20, modality_ids.shape, generator=generator)
    clean, noise = torch.randn(2, 2, 2, 4, 4, generator=generator, dtype=torch.float64)
    return ids, modality_ids, clean, noise


@pytest.mark.parametrize("said", TIMES)
def test_times_are_drawn_as_the_reference_draws_them(said: str, tmp_path: Path) -> None:
    model: Any = motc.load(written(f"{FLOW}, {said}".rstrip(", "), tmp_path))
    drawn = model.objectives["image"].draw(64, 16, torch.Generator().manual_seed(3), torch.device("cpu"))
    expected = 1000 * drawn_times(TIMES[said], 64, 16, seed=3)
    torch.testing.assert_close(drawn, expected, rtol=1e-5, atol=1e-3)
    assert bool(((drawn >= 0) & (drawn <= 1000)).all())


@pytest.mark.parametrize("said", [said for said in TIMES if said])
def test_steps_are_those_at_the_times(said: str, tmp_path: Path) -> None:
    model: Any = motc.load(written(f"{DDPM}, {said}", tmp_path))
    drawn = model.objectives["image"].draw(64, 16, torch.Generator().manual_seed(3), torch.device("cpu"))
    expected = (1000 * drawn_times(TIMES[said], 64, 16, seed=3)).clamp(max=999)
    assert drawn.dtype == torch.int64
    assert bool(((drawn - expected).abs() <= 1 + 1e-3).all() & (drawn <= expected + 1e-3).all())


@pytest.mark.parametrize("scheme", ["logit_normal", "mode"])
def test_times_are_diffusers(scheme: str, tmp_path: Path) -> None:
    said = {"logit_normal": "mean = 0.3, std = 0.7", "mode": "scale = 1.1"}[scheme]
    model: Any = motc.load(written(f"{FLOW}, times {{ kind = {scheme}, {said} }}", tmp_path))
    drawn = model.objectives["image"].draw(32, 16, torch.Generator().manual_seed(1), torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    theirs = compute_density_for_timestep_sampling(scheme, 32, 0.3, 0.7, 1.1, generator=generator)
    torch.testing.assert_close(drawn, 1000 * theirs)


def test_shifts_are_those_of_diffusers_schedulers(tmp_path: Path) -> None:
    even = torch.linspace(1, 0.01, 20)
    shifted = FlowMatchEulerDiscreteScheduler(20, shift=3.0)
    torch.testing.assert_close(3.0 * even / (1 + 2.0 * even), shifted._sigma_to_t(3.0 * even / (1 + 2.0 * even)) / 20)
    mu = 0.5 + (1.15 - 0.5) * (1024 - 256) / (4096 - 256)  # calculate_shift of diffusers, for 1,024 tokens
    flux = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    model: Any = motc.load(written(f"{FLOW}, times {{ shift_by_tokens {{ kind = exponential }} }}", tmp_path))
    generator = torch.Generator().manual_seed(2)
    drawn = model.objectives["image"].draw(20, 1024, generator, torch.device("cpu"))
    plain = torch.rand(20, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(drawn, 1000 * flux.time_shift(mu, 1.0, plain))


def test_loss_draws_by_the_tokens_of_its_latents_and_timesteps_override(tmp_path: Path) -> None:
    ids, modality_ids, clean, noise = batch()
    said = f"{FLOW}, times {{ {EXPONENTIAL} }}"
    model: Any = motc.load(written(said, tmp_path), dtype=torch.float64)
    times = 1000 * drawn_times(TIMES[f"times {{ {EXPONENTIAL} }}"], 2, 4, seed=5)

    def loss(**given: Any) -> float:
        total: Tensor = model.loss(
            ids, modality_ids, latents={"image": clean}, noise={"image": noise}, **given
        ).by_modality["image"]
        return total.item()

    drawn = loss(generator=torch.Generator().manual_seed(5))
    assert drawn == pytest.approx(loss(timesteps={"image": times}), rel=1e-6)
    assert drawn != pytest.approx(loss(timesteps={"image": times / 2}), rel=1e-3)


@pytest.mark.laws
def test_every_law_holds_of_each_objective() -> None:
    latent = "modality image { latent { channels = 2, patch = 2, %s } }"
    objectives = [OBJECTIVES[number] for number in (0, 2, 3, 5)]
    names = [f"m{number}" for number in range(len(objectives))]
    each = [(latent % said).replace("image", name) for name, said in zip(names, objectives, strict=True)]
    spec = SPEC.replace(latent, "\n".join(each)).replace("= image }", f"= [{', '.join(names)}] }}")
    verdict = report(spec)
    assert verdict.ok, verdict


@pytest.mark.parametrize("schedule", ["cosine", "linear", "scaled_linear"])
@pytest.mark.parametrize("prediction", ["noise", "velocity", "sample"])
def test_steps_of_noise_are_diffusers(prediction: Any, schedule: Any) -> None:
    objective = Diffusion(prediction=prediction, schedule=schedule, beta_start=0.00085, beta_end=0.012)
    called = "squaredcos_cap_v2" if schedule == "cosine" else schedule
    scheduler = DDPMScheduler(1000, beta_start=0.00085, beta_end=0.012, beta_schedule=called)
    torch.testing.assert_close(objective.signal().float(), scheduler.alphas_cumprod, rtol=1e-4, atol=1e-7)
    scheduler.alphas_cumprod = objective.signal()  # theirs are of float32
    _, _, clean, noise = batch()
    times = torch.tensor([17, 803])
    noised, target = objective.noised(clean, times, noise)
    expected = {"noise": noise, "velocity": scheduler.get_velocity(clean, noise, times), "sample": clean}
    torch.testing.assert_close(noised, scheduler.add_noise(clean, noise, times), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(target, expected[prediction], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("prediction", ["noise", "velocity", "sample"])
def test_errors_count_by_signal_over_noise_as_in_diffusers_examples(prediction: Any) -> None:
    objective = Diffusion(prediction=prediction, gamma=5.0)
    _, _, clean, _ = batch()
    times = torch.tensor([10, 600])
    scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    snr = compute_snr(scheduler, times)
    expected = snr.clamp(max=5.0) / {"noise": snr, "velocity": snr + 1, "sample": 1.0}[prediction]
    torch.testing.assert_close(objective.counts(clean, times).float(), expected, rtol=1e-4, atol=1e-6)  # type: ignore[union-attr]


@pytest.mark.parametrize("weighting", ["sigma_sqrt", "cosmap"])
def test_errors_count_by_sigma_as_in_diffusers(weighting: Any) -> None:
    _, _, clean, _ = batch()
    counts = RectifiedFlow(weighting=weighting).counts(clean, torch.tensor([40.0, 900.0]))
    expected = compute_loss_weighting_for_sd3(weighting, torch.tensor([0.04, 0.9], dtype=torch.float64))
    torch.testing.assert_close(counts, expected.double(), rtol=1e-6, atol=0)


def test_a_loss_is_the_mean_of_weighted_squares(tmp_path: Path) -> None:
    """Written as diffusers' examples of training write it."""
    said = "objective { prediction = velocity }, weighting = min_snr"
    model: Any = motc.load(written(said, tmp_path), dtype=torch.float64)
    ids, modality_ids, clean, noise = batch()
    times = torch.tensor([100, 700])
    scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    scheduler.alphas_cumprod = model.objectives["image"].signal()
    noised = scheduler.add_noise(clean, noise, times)
    predicted = model(ids, modality_ids, latents={"image": noised}, timesteps={"image": times}).predictions["image"]
    snr = scheduler.alphas_cumprod[times] / (1 - scheduler.alphas_cumprod[times])
    weights = snr.clamp(max=5.0) / (snr + 1)
    squares = (predicted - scheduler.get_velocity(clean, noise, times)).square().mean(dim=(1, 2, 3))
    given = {"latents": {"image": clean}, "timesteps": {"image": times}, "noise": {"image": noise}}
    losses = model.loss(ids, modality_ids, **given)
    torch.testing.assert_close(losses.by_modality["image"], (squares * weights).mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("objective { kind = flow, prediction = noise }", "`prediction` says nothing of flow"),
        ("objective { schedule = cosine, beta_end = 0.1 }", "`beta_end` says nothing of a cosine schedule"),
        ("objective { schedule = linear, beta_start = 0.5 }", "noise grows from step to step"),
        ("times { mean = 1 }", "`mean` says nothing of times of kind uniform"),
        ("times { kind = beta, std = 1 }", "`std` says nothing of times of kind beta"),
        ("times { low = 0.5, high = 0.25 }", "times go from `low` up to `high`"),
        ("times { shift = 2, shift_by_tokens { kind = sqrt, base_tokens = 4 } }", "times are shifted twice"),
        ("times { shift_by_tokens { kind = sqrt } }", "needs `base_tokens`"),
        ("times { shift_by_tokens { kind = sqrt, base_tokens = 4, max_shift = 1 } }", "`max_shift` says nothing"),
        ("times { shift_by_tokens { kind = exponential, max_tokens = 16 } }", "`max_tokens` is not above"),
        ("weighting = cosmap", "errors of ddpm are not weighted by cosmap"),
        ("objective = flow, weighting = min_snr", "errors of flow are not weighted by min_snr"),
        ("weighting { kind = snr, gamma = 2 }", "`gamma` says nothing of snr"),
        ("weighting = snr", "weighting says nothing here"),
    ],
)
def test_keys_that_do_not_go_together_are_told(said: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        compile_ir(written(said, tmp_path))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "MOT120"
    assert diagnostic.help


def test_defaults_that_are_said_change_no_hash_and_all_else_does(tmp_path: Path) -> None:
    plain = semantic_hash(compile_ir(written(DDPM, tmp_path)))
    said = "objective { kind = ddpm, prediction = noise, schedule = cosine }, times = uniform, weighting = none"
    assert semantic_hash(compile_ir(written(said, tmp_path))) == plain
    others = [*OBJECTIVES, *(f"{DDPM}, {times}" for times in TIMES if times)]
    hashes = {semantic_hash(compile_ir(written(other, tmp_path))) for other in others}
    assert len(hashes | {plain}) == len(others) + 1


def test_a_diff_tells_each(tmp_path: Path) -> None:
    plain = compile_ir(written(DDPM, tmp_path))
    said = "objective { prediction = velocity }, weighting = min_snr, times { kind = logit_normal, shift = 3 }"
    edits = diff(plain, compile_ir(written(said, tmp_path)))
    assert [(edit.subject, edit.before, edit.after) for edit in edits] == [
        ("latent.objective", "ddpm", "ddpm (velocity, cosine)"),
        ("latent.times", "uniform", "logit_normal(0, 1), shifted by 3"),
        ("latent.weighting", "even", "min_snr 5"),
    ]
