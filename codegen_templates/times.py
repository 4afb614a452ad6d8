"""How much noise latents have in training: times between data, 0, and noise, 1, and how they are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .constants import on_device


class SqrtShift(NamedTuple):
    """A shift by the tokens of a latent: the root of how many times `base_tokens` they are (SD3, 2403.03206)."""

    base_tokens: int

    def of(self, tokens: int) -> float:
        return math.sqrt(tokens / self.base_tokens)


class ExponentialShift(NamedTuple):
    """A shift by the number of a latent's tokens: e to the power of a line through two points.

    As FLUX has it: `calculate_shift` of diffusers, and `time_shift_type = "exponential"` of its scheduler.
    """

    base_tokens: int = 256
    max_tokens: int = 4096
    base_shift: float = 0.5
    max_shift: float = 1.15

    def of(self, tokens: int) -> float:
        slope = (self.max_shift - self.base_shift) / (self.max_tokens - self.base_tokens)
        return math.exp(slope * (tokens - self.base_tokens) + self.base_shift)


class Uniform(NamedTuple):
    """All times equally likely."""

    def draw(self, count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        return torch.rand(count, generator=generator, device=device)


class LogitNormal(NamedTuple):
    """Times whose log-odds, log(t / (1 - t)), are normal (SD3, 2403.03206, section 3.1)."""

    mean: float = 0.0
    std: float = 1.0

    def draw(self, count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        return torch.normal(self.mean, self.std, (count,), generator=generator, device=device).sigmoid()


class Mode(NamedTuple):
    """Times with heavy tails: 1 - u - scale (cos(pi u / 2)^2 - 1 + u) for even u (SD3, 2403.03206, section 3.1)."""

    scale: float = 1.29

    def draw(self, count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        u = torch.rand(count, generator=generator, device=device)
        return 1 - u - self.scale * ((torch.pi * u / 2).cos().square() - 1 + u)


class Beta(NamedTuple):
    """Times of a Beta distribution, such as Beta(1.5, 1) from 0.001 to 1 (pi0, 2410.24164; openpi, pi0.py)."""

    alpha: float = 1.5
    beta: float = 1.0

    def draw(self, count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        both = torch.tensor((self.alpha, self.beta), device=device).expand(count, 2).contiguous()
        return torch._sample_dirichlet(both, generator)[:, 0]


class Times(NamedTuple):
    """Times of a distribution, from `low` to `high`, and then shifted.

    A shift s makes s t / (1 + (s - 1) t) of a time t (SD3, equation 23): above 1 there is more noise. There is one of
    `each` span, or of each frame or token (diffusion forcing, 2407.01392).
    """

    distribution: Uniform | LogitNormal | Mode | Beta
    low: float = 0.0
    high: float = 1.0
    shift: float | SqrtShift | ExponentialShift = 1.0
    each: Literal["span", "frame", "token"] = "span"

    def draw(
        self, count: int, tokens: int | Sequence[int], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        """Times between 0 and 1, float32 [count], for latents of so many tokens each, or of each of so many."""
        times = self.distribution.draw(count, generator, device)
        if (self.low, self.high) != (0.0, 1.0):
            times = times * (self.high - self.low) + self.low
        if isinstance(self.shift, float):
            shift: Any = self.shift
        elif isinstance(tokens, int):
            shift = self.shift.of(tokens)
        else:
            shift = on_device(tuple(map(self.shift.of, tokens)), device).float()
        is_one = isinstance(shift, float) and shift == 1.0
        return times if is_one else shift * times / (1 + (shift - 1) * times)
