"""The widest numbers in which this torch trains compiled models on a CPU, and how near two results must be."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode


def _widest() -> torch.dtype:
    """float64; float32 where the compiler takes all statistics of attention for float32 (torch 2.11 and 2.12)."""
    with FakeTensorMode():
        q = torch.empty(1, 1, 1, 8, dtype=torch.float64)
        _, statistics = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q)
    return statistics.dtype  # type: ignore[no-any-return]


WIDEST = _widest()
OUTPUTS, GRADIENTS = (1e-10, 1e-8) if torch.float64 == WIDEST else (1e-5, 1e-3)
"""Relative tolerances; a small part of it is allowed beside zero."""
