"""How much noise latents have in training, as the papers say it, by torch's own distributions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from torch import Tensor
from torch.distributions import Beta, Distribution, Normal, Uniform


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceTimes:
    """A distribution of times between data, 0, and noise, 1, from `low` to `high`, and the shift of what it gives.

    `logit_normal`: log(t / (1 - t)) has this `mean` and `std`; `mode`: of even u, with this `scale` (both SD3, arXiv
    2403.03206); `beta`: of parameters `alpha` and `beta` (pi0, arXiv 2410.24164). The shift is a number, or it
    follows from a latent's tokens: the root of their ratio to the first of `points`, or e to what lies at them on the
    line through the points, each of which is tokens and an exponent (FLUX, as in diffusers).
    """

    kind: Literal["uniform", "logit_normal", "mode", "beta"] = "uniform"
    mean: float = 0.0
    std: float = 1.0
    scale: float = 1.29
    alpha: float = 1.5
    beta: float = 1.0
    low: float = 0.0
    high: float = 1.0
    shift: float | Literal["sqrt", "exponential"] = 1.0
    points: tuple[tuple[int, float], tuple[int, float]] = ((256, 0.5), (4096, 1.15))


def drawn_times(times: ReferenceTimes, count: int, tokens: int, seed: int) -> Tensor:
    """Times float32 [count] for latents of so many tokens, drawn from torch's generator at this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        t = fractions(times, count)
    t = times.low + (times.high - times.low) * t
    s = shift_of(times, tokens)
    return s * t / (1 + (s - 1) * t)


def fractions(times: ReferenceTimes, count: int) -> Tensor:
    """What the distribution draws, float32 [count]."""
    match times.kind:
        case "uniform":
            return sample(Uniform(0.0, 1.0), count)
        case "logit_normal":
            odds = sample(Normal(times.mean, times.std), count).exp()
            return odds / (1 + odds)
        case "mode":
            u = sample(Uniform(0.0, 1.0), count)
            return 1 - u - times.scale * (torch.cos(math.pi / 2 * u) ** 2 - 1 + u)
        case "beta":
            return sample(Beta(times.alpha, times.beta), count)
        case _:
            assert_never(times.kind)


def sample(distribution: Distribution, count: int) -> Tensor:
    drawn: Tensor = distribution.sample((count,))
    return drawn


def shift_of(times: ReferenceTimes, tokens: int) -> float:
    """The shift for latents of so many tokens."""
    (few, low), (many, high) = times.points
    match times.shift:
        case "sqrt":
            return math.sqrt(tokens / few)
        case "exponential":
            return math.exp(low + (high - low) * (tokens - few) / (many - few))
        case number:
            return number
