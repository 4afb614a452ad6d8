"""Activations that torch has no function for."""

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_capped(x: Tensor, cap: float) -> Tensor:
    """cap · tanh(x / cap): about x where that is small, and never beyond the cap."""
    return torch.tanh(x / cap) * cap


def quick_gelu(x: Tensor) -> Tensor:
    """x · sigmoid(1.702 x), an approximation of GELU."""
    return x * torch.sigmoid(1.702 * x)


def clamped_geglu(gate: Tensor, up: Tensor) -> Tensor:
    """quick_gelu(gate) · (up + 1), as gpt-oss has it: a gate is 7 at most, and `up` from -7 to 7."""
    return (up.clamp(-7.0, 7.0) + 1) * quick_gelu(gate.clamp(max=7.0))


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its approximation with a tanh."""
    return F.gelu(x, approximate="tanh")


def squared_relu(x: Tensor) -> Tensor:
    """The square of ReLU."""
    return F.relu(x).square()
