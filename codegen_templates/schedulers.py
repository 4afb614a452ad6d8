"""Schedulers of diffusers, or objects like them: what they are asked, and which ones denoise what a model predicts."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .generate_checks import check_mapping
from .latent_checks import outside


def check_schedulers(model: Any, schedulers: Any) -> None:
    """Raise TypeError or ValueError for what is not by the names of modalities that have latents, or no scheduler."""
    check_mapping("schedulers", schedulers)
    for name, scheduler in schedulers.items():
        if name not in model.latents:
            known = ", ".join(model.latents)
            raise ValueError(f"{reprlib.repr(name)} is no continuous modality of this model: {known}")
        for method in ("set_timesteps", "step"):
            if not callable(getattr(scheduler, method, None)):
                raise TypeError(f"the scheduler of {name}, a {type(scheduler).__name__}, has no `{method}`")
        try:
            inspect.signature(scheduler.step).bind(None, None, None)
        except TypeError as error:
            raise TypeError(
                f"the scheduler of {name}, a {type(scheduler).__name__}, does not step by a prediction, a timestep and "
                f"a sample: {error}"
            ) from None
        _check_prediction(name, scheduler, model.objectives[name])
    if len({id(scheduler) for scheduler in schedulers.values()}) < len(schedulers):
        raise ValueError("a scheduler remembers its steps: give each modality one of its own")


def _check_prediction(name: str, scheduler: Any, objective: Any) -> None:
    """Raise ValueError for a scheduler of diffusers that takes predictions for others, or adds noise otherwise."""
    configuration = getattr(scheduler, "config", None)
    if not isinstance(configuration, Mapping):
        return
    said = configuration.get("prediction_type", objective.prediction_type)
    if said != objective.prediction_type:
        raise ValueError(
            f"the scheduler of {name} has prediction_type {said!r}, and what is predicted is "
            f"{objective.prediction_type!r}"
        )
    if _takes_variances(scheduler) and not objective.variances:
        raise ValueError(f"the scheduler of {name} takes variances that are learned, and none are predicted")
    if not objective.whole:
        return
    signal = getattr(scheduler, "alphas_cumprod", None)
    if not isinstance(signal, Tensor):
        return
    mine = objective.signal()
    if signal.shape != mine.shape or bool((signal.to(mine) - mine).abs().max() > 1e-3):
        raise ValueError(f"the scheduler of {name} adds noise by another schedule than its objective: {objective.said}")


def _takes_variances(scheduler: Any) -> bool:
    """Whether a scheduler of diffusers takes variances behind what is predicted."""
    configuration = getattr(scheduler, "config", None)
    said = configuration.get("variance_type") if isinstance(configuration, Mapping) else None
    return said in ("learned", "learned_range")


def times_of(name: str, scheduler: Any, objective: Any, steps: int, tokens: int, device: torch.device) -> Tensor:
    """The timesteps by which a scheduler denoises latents of so many tokens.

    Raises ValueError for what a modality's objective does not have.
    """
    scheduler.set_timesteps(steps, device=device, **_shift(scheduler, tokens))
    times: Tensor = scheduler.timesteps
    if bool(outside(times, objective).any()):
        raise ValueError(f"the scheduler of {name} has timesteps its objective has not: it has 0..{objective.last}")
    return times


def _shift(scheduler: Any, tokens: int) -> dict[str, float]:
    """What `set_timesteps` of diffusers' flow schedulers is given if it shifts by the number of tokens (FLUX)."""
    configuration = getattr(scheduler, "config", None)
    if not isinstance(configuration, Mapping) or not configuration.get("use_dynamic_shifting"):
        return {}
    few, many = configuration["base_image_seq_len"], configuration["max_image_seq_len"]
    low, high = configuration["base_shift"], configuration["max_shift"]
    return {"mu": low + (high - low) * (tokens - few) / (many - few)}


def at_first(scheduler: Any, noise: Tensor) -> Tensor:
    """Where denoising begins: noise of variance 1, as large as a scheduler has it."""
    return noise * getattr(scheduler, "init_noise_sigma", 1.0)


def as_seen(scheduler: Any, x: Tensor, time: Tensor) -> Tensor:
    """Latents as the model is to see them at a timestep: some schedulers keep them larger."""
    scale = getattr(scheduler, "scale_model_input", None)
    return x if scale is None else scale(x, time)


def stepped(scheduler: Any, predicted: Tensor, time: Tensor, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Latents a step further; what a scheduler draws for it, it draws from the generator.

    Variances, the second half of channels where they are predicted, are for schedulers that learn these.
    """
    if predicted.shape[1] > x.shape[1] and not _takes_variances(scheduler):
        predicted = predicted[:, : x.shape[1]]
    drawing = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    further: Tensor = scheduler.step(predicted, time, x, **drawing).prev_sample
    return further
