"""What a validation found: data, for the command line to print."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

OUTPUT_TOLERANCE = 1e-9
GRADIENT_TOLERANCE = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """One law: the largest relative deviation found (infinite for NaN, or where shapes differ) and what is allowed."""

    name: str
    ok: bool
    max_deviation: float
    tolerance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All laws that apply, and those that do not, each with the reason."""

    ok: bool
    laws: tuple[Law, ...]
    skipped: tuple[str, ...]


Tensors = Tensor | Mapping[str, Tensor]


def law(name: str, deviations: list[float], tolerance: float) -> Law:
    """A law that compared at least one pair."""
    assert deviations, f"the law '{name}' compared nothing"
    worst = max(deviations)
    return Law(name=name, ok=worst <= tolerance, max_deviation=worst, tolerance=tolerance)


def deviation(actual: Tensors, expected: Tensors) -> float:
    """max |actual - expected| / max(1, max |expected|); infinite for NaN, other shapes or other keys."""
    if isinstance(actual, Tensor) and isinstance(expected, Tensor):
        return _tensor_deviation(actual, expected)
    if isinstance(actual, Tensor) or isinstance(expected, Tensor) or set(actual) != set(expected):
        return math.inf
    return max((_tensor_deviation(actual[key], expected[key]) for key in expected), default=0.0)


def _tensor_deviation(actual: Tensor, expected: Tensor) -> float:
    if actual.shape != expected.shape:
        return math.inf
    if expected.numel() == 0:
        return 0.0
    actual, expected = actual.detach().double(), expected.detach().double()
    scale = max(1.0, float(expected.abs().max()))
    worst = float((actual - expected).abs().max()) / scale
    return worst if math.isfinite(worst) else math.inf
