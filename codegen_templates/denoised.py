"""Noise to latents, by a scheduler's steps and what is predicted of them at each."""

from __future__ import annotations

import copy
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .generate_checks import whole
from .latent_checks import AXES, is_cut, patch_words, patches_in, product_words
from .schedulers import as_seen, at_first, stepped, times_of


def unnoised(latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The timesteps of clean latents."""
    return {name: torch.zeros(x.shape[:1], dtype=torch.int64, device=x.device) for name, x in latents.items()}


def checked_size(name: str, size: Any, patch: tuple[int, ...]) -> tuple[int, ...]:
    """A latent's sides along its axes; that of a sequence may be its length alone.

    Raises TypeError or ValueError for other than whole numbers, and for no multiple of its patch.
    """
    if len(patch) == 1 and not isinstance(size, Sequence):
        size = (size,)
    if not isinstance(size, Sequence) or len(size) != len(patch):
        axes = ", ".join(AXES[len(patch)])
        raise TypeError(f"the span of {name} needs its size as ({axes}), not {reprlib.repr(size)}")
    sides = tuple(whole(f"the size of the span of {name}", number, positive=False) for number in size)
    if min(sides) < 1 or not is_cut(sides, patch):
        said, words = product_words(sides), patch_words(patch)
        raise ValueError(f"the span of {name} has size {said}: no multiple of its patch, {words}")
    return sides


class Course:
    """Latents [n, channels, ...] of one size on their way from noise, by a scheduler's steps."""

    def __init__(self, name: str, scheduler: Any, model: Any, noise: Tensor, steps: int) -> None:
        tokens = patches_in(noise.shape[2:], model.latents[name].patch)
        self.scheduler = scheduler
        self.times = times_of(name, scheduler, model.objectives[name], steps, tokens, noise.device)
        self.latents = at_first(scheduler, noise)

    def shown(self, step: int) -> Tensor:
        """Latents as the model sees them."""
        return as_seen(self.scheduler, self.latents, self.times[step])

    def at(self, step: int) -> Tensor:
        """The timesteps [n] of the latents."""
        return self.times[step].expand(self.latents.shape[0])

    def further(self, step: int, predicted: Tensor, generator: torch.Generator | None) -> None:
        """Take a step by what is predicted."""
        predicted = predicted.to(self.latents.dtype)
        self.latents = stepped(self.scheduler, predicted, self.times[step], self.latents, generator)


def denoised(
    model: Any,
    noise: Mapping[str, Any],
    following: Any,
    schedulers: Mapping[str, Any],
    steps: int,
    generator: torch.Generator | None,
) -> dict[str, Any]:
    """Noise [n, channels, ...] of each modality to latents, all at once, by what `following` has `predicted`.

    Noise may be a list of one for each span, which differ in size: each goes by a copy of the scheduler.
    Raises ValueError for timesteps that a modality's objective does not have, and where numbers are lost.
    """
    courses: dict[str, list[Course]] = {}
    for name, x in noise.items():
        parts = [each[None] for each in x] if isinstance(x, list) else [x]
        own = [copy.deepcopy(schedulers[name]) for _ in parts] if isinstance(x, list) else [schedulers[name]]
        courses[name] = [Course(name, each, model, part, steps) for each, part in zip(own, parts, strict=True)]
    counts = {name: len(of[0].times) for name, of in courses.items() if of}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise ValueError(f"what is denoised together needs as many timesteps each, and there are {told}")

    def as_given(name: str, parts: list[Tensor]) -> Any:
        return [part[0] for part in parts] if isinstance(noise[name], list) else parts[0]

    for step in range(next(iter(counts.values()), 0)):
        shown = {name: as_given(name, [each.shown(step) for each in of]) for name, of in courses.items()}
        timesteps = {name: torch.cat([each.at(step) for each in of]) for name, of in courses.items() if of}
        predictions = following.predicted(shown, timesteps)
        for name, of in courses.items():
            made = predictions[name]
            for course, predicted in zip(
                of, [x[None] for x in made] if isinstance(made, list) else [made], strict=True
            ):
                course.further(step, predicted, generator)
    for name, of in courses.items():
        if not all(bool(each.latents.isfinite().all()) for each in of):
            raise ValueError(f"denoising {name} gave infinite numbers or NaN: is its scheduler one for its objective?")
    return {name: as_given(name, [each.latents for each in of]) for name, of in courses.items()}


def noise_of(model: Any, name: str, rows: int, size: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Noise [rows, channels, ...] for latents of this size, in float32 or wider."""
    like = next(model.latents[name].parameters())
    shape, dtype = (rows, model.latents[name].channels, *size), torch.promote_types(like.dtype, torch.float32)
    return torch.randn(shape, generator=generator, device=like.device, dtype=dtype)
