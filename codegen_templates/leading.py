"""How a prediction is led away from another one (classifier-free guidance, Ho and Salimans, 2207.12598)."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .generate_checks import check_mapping
from .latents import beside


def led(predicted: Tensor, other: Tensor, scale: float, renorm: bool, variances: bool = False) -> Tensor:
    """other + scale (predicted - other), of latents [n, ...], in float32 or wider.

    With `renorm` no longer than `predicted`, as in BAGEL. Variances, the second half of channels, stay as predicted.
    """
    if variances:
        (mean, variance), (of_other, _) = predicted.chunk(2, dim=1), other.chunk(2, dim=1)
        away = led(mean, of_other, scale, renorm)
        return torch.cat((away, variance.to(away.dtype)), dim=1)
    wide = torch.promote_types(predicted.dtype, torch.float32)
    predicted, other = predicted.to(wide), other.to(wide)
    away = other + scale * (predicted - other)
    if not renorm:
        return away
    lengths = [beside(x.flatten(1).norm(dim=1), x) for x in (predicted, away)]
    shorter: Tensor = away * (lengths[0] / (lengths[1] + 1e-8)).clamp(max=1.0)
    return shorter


def guides_said(guidance: Any, made: Iterable[str], keys: str) -> Iterator[tuple[str, Any]]:
    """What is said of each guide of a modality's latents, in its order; `keys` are those that one has, in words.

    Raises TypeError or ValueError for guidance of what is not made, and for what is no dict.
    """
    check_mapping("guidance", guidance)
    for name, said in guidance.items():
        if name not in made:
            raise ValueError(f"guidance is of latents that are made, and {reprlib.repr(name)} is none of them")
        each = [said] if isinstance(said, Mapping) else said
        if not isinstance(each, Sequence) or isinstance(each, str):
            raise TypeError(f"guidance of {name} must be a dict with {keys}, or several, not {reprlib.repr(said)}")
        yield from ((name, one) for one in each)


def checked_scale(name: str, scale: Any) -> float:
    """How far latents of a modality are led. Raises TypeError for what is no finite number."""
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not abs(scale) < float("inf"):
        raise TypeError(f"the scale of guidance of {name} must be a number, not {reprlib.repr(scale)}")
    return float(scale)
