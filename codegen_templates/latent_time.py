"""A vector of a timestep."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sinusoids(timesteps: Tensor, size: int, scale: float = 1.0) -> Tensor:
    """Cosines and sines [n, size] of timesteps [n] times a scale, in float32.

    Frequencies are from 1 to 1/10,000 (DiT, 2212.09748).
    """
    half = size // 2
    powers = torch.arange(half, dtype=torch.int64, device=timesteps.device).float() / half
    angles = scale * (timesteps.float()[:, None] * (1.0 / 10000.0**powers))
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def waves_of_periods(timesteps: Tensor, size: int, shortest: float, longest: float) -> Tensor:
    """Sines and cosines [n, size] of timesteps [n], in float32; periods as `ConcatTime` has them."""
    steps = torch.linspace(0.0, 1.0, size // 2, device=timesteps.device)
    periods = shortest * (longest / shortest) ** steps
    angles = 1.0 / periods * 2 * torch.pi * (timesteps.float() / 1000)[:, None]
    return torch.cat((angles.sin(), angles.cos()), dim=1)


class TimestepEmbedding(nn.Module):
    """A vector of a timestep, times a scale: two linear maps of its sinusoids, silu between."""

    def __init__(self, frequencies: int, width: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.hidden = nn.Linear(frequencies, width)
        self.embed = nn.Linear(width, width)

    def forward(self, timesteps: Tensor) -> Tensor:
        weight = self.hidden.weight
        waves = sinusoids(timesteps.to(weight.device), weight.shape[1], self.scale).to(weight.dtype)
        embedded: Tensor = self.embed(F.silu(self.hidden(waves)))
        return embedded

    def told(self, x: Tensor, timesteps: Tensor, moments: Tensor | None = None) -> Tensor:
        """Tokens [n, P, w] with the vectors of timesteps [n] added; or [P, w], those of their `moments`, int64 [P]."""
        vectors: Tensor = self(timesteps)
        return x + (vectors[:, None] if moments is None else vectors[moments])


class NoTime(nn.Module):
    """Tokens that are not told their timestep."""

    def told(self, x: Tensor, timesteps: Tensor, moments: Tensor | None = None) -> Tensor:
        """Tokens [..., w] as they are."""
        return x


class ConcatTime(nn.Module):
    """Tokens and the sinusoids of their timestep, one behind the other, through two linear maps, silu between (pi0).

    There are as many sinusoids as a token has numbers, sines first, of periods from the shortest to the longest, each
    the same multiple of the one before; a period of 1 is that of all noise there is.
    """

    def __init__(self, width: int, min_period: float, max_period: float) -> None:
        super().__init__()
        self.min_period = min_period
        self.max_period = max_period
        self.hidden = nn.Linear(2 * width, width)
        self.embed = nn.Linear(width, width)

    def told(self, x: Tensor, timesteps: Tensor, moments: Tensor | None = None) -> Tensor:
        """Tokens [n, P, w], told their timesteps [n]; or [P, w], told those of their `moments`, int64 [P]."""
        weight = self.hidden.weight
        waves = waves_of_periods(timesteps.to(weight.device), weight.shape[0], self.min_period, self.max_period)
        waves = waves.to(x.dtype)
        waves = waves[:, None].expand_as(x) if moments is None else waves[moments]
        mixed: Tensor = self.embed(F.silu(self.hidden(torch.cat((x, waves), dim=-1))))
        return mixed
