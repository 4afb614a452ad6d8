"""Activations that torch has no function for."""

import torch
from torch import Tensor


def quick_gelu(x: Tensor) -> Tensor:
    """x · sigmoid(1.702 x), an approximation of GELU."""
    return x * torch.sigmoid(1.702 * x)
