"""How much what was written may differ from the model it came from."""

from __future__ import annotations

import torch


class NotTheSame(Exception):
    """What was written does not answer as the model it came from does: a mistake of ours, or of who was asked."""


def tolerance(dtype: torch.dtype) -> float:
    """Relative to the largest number: rounding of other kernels or another order of sums, and nothing that is wrong."""
    match dtype:
        case torch.float64:
            return 1e-9
        case torch.float32:
            return 1e-4
        case _:
            return 5e-2


def deviation(got: torch.Tensor, expected: torch.Tensor) -> float:
    """How far off, relative to the largest expected number; infinite for another shape, and where one is no number."""
    if got.shape != expected.shape or not torch.equal(got.isnan(), expected.isnan()):
        return float("inf")
    if not expected.numel():
        return 0.0
    difference = float((got.double() - expected.double()).nan_to_num().abs().max())
    return difference / max(float(expected.double().nan_to_num().abs().max()), 1e-30) if difference else 0.0
