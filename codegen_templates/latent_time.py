"""A vector of a timestep."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sinusoids(timesteps: Tensor, size: int) -> Tensor:
    """Cosines and sines [n, size] of timesteps [n], in float32; frequencies from 1 to 1/10,000 (DiT, 2212.09748)."""
    half = size // 2
    powers = torch.arange(half, dtype=torch.int64, device=timesteps.device).float() / half
    angles = timesteps.float()[:, None] * (1.0 / 10000.0**powers)
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class TimestepEmbedding(nn.Module):
    """A vector of a timestep: two linear maps of its sinusoids, silu between."""

    def __init__(self, frequencies: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(frequencies, width)
        self.embed = nn.Linear(width, width)

    def forward(self, timesteps: Tensor) -> Tensor:
        weight = self.hidden.weight
        waves = sinusoids(timesteps.to(weight.device), weight.shape[1]).to(weight.dtype)
        embedded: Tensor = self.embed(F.silu(self.hidden(waves)))
        return embedded
