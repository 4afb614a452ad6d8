"""Noise to latents, by a scheduler's steps and what is predicted of them at each."""

from __future__ import annotations

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


def denoised(
    model: Any,
    noise: Mapping[str, Tensor],
    following: Any,
    schedulers: Mapping[str, Any],
    steps: int,
    generator: torch.Generator | None,
) -> dict[str, Tensor]:
    """Noise [n, channels, ...] of each modality to latents, all at once, by what `following` has `predicted` of them.

    Raises ValueError for timesteps that a modality's objective does not have, and where numbers are lost.
    """
    latents, times = dict(noise), {}
    for name, x in noise.items():
        tokens = patches_in(x.shape[2:], model.latents[name].patch)
        times[name] = times_of(name, schedulers[name], model.objectives[name], steps, tokens, x.device)
        latents[name] = at_first(schedulers[name], x)
    if len({len(each) for each in times.values()}) > 1:
        counts = ", ".join(f"{len(each)} of {name}" for name, each in times.items())
        raise ValueError(f"what is denoised together needs as many timesteps each, and there are {counts}")
    for at in zip(*times.values(), strict=True):
        now = dict(zip(times, at, strict=True))
        timesteps = {name: now[name].expand(x.shape[0]) for name, x in latents.items()}
        shown = {name: as_seen(schedulers[name], x, now[name]) for name, x in latents.items()}
        predictions = following.predicted(shown, timesteps)
        for name, x in latents.items():
            latents[name] = stepped(schedulers[name], predictions[name].to(x.dtype), now[name], x, generator)
    for name, x in latents.items():
        if not bool(x.isfinite().all()):
            raise ValueError(f"denoising {name} gave infinite numbers or NaN: is its scheduler one for its objective?")
    return latents


def noise_of(model: Any, name: str, rows: int, size: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Noise [rows, channels, ...] for latents of this size, in float32 or wider."""
    like = next(model.latents[name].parameters())
    shape, dtype = (rows, model.latents[name].channels, *size), torch.promote_types(like.dtype, torch.float32)
    return torch.randn(shape, generator=generator, device=like.device, dtype=dtype)
