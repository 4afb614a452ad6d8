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
