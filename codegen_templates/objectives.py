"""What a continuous modality learns: how its latents are noised, and what is to be predicted."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Literal, NamedTuple, assert_never

import torch
from torch import Tensor

from .constants import on_device
from .latent_checks import check_floating, check_timesteps, named, outside, patches_in
from .latents import beside
from .patched import AnyLatents, Patched, drawn_for, moments_in, named_latents, of_each, values_of
from .times import Times
from .variances import Bound


class Aim(NamedTuple):
    """What is to be predicted of latents, in their shape."""

    target: Tensor
    weights: Tensor | None  # [n]: what the squares of each latent's error count; None: 1
    noised: Tensor | None = None  # bool [n]: which latents are to be predicted; None: all
    bound: Bound | None = None  # what variances that are predicted cost


class Diffusion:
    """One of 1,000 steps of noise, 0 having the least (Ho et al., 2006.11239), as diffusers' DDPMScheduler has it.

    Its `schedule` of noise is cosine (Nichol and Dhariwal, 2102.09672; squaredcos_cap_v2), linear from `beta_start` to
    `beta_end`, or scaled_linear, with roots that are. The `prediction` is the noise, the velocity (v_prediction;
    Salimans and Ho, 2202.00512) or the sample. With a `gamma` the error counts as that of the sample would times the
    ratio of signal and noise, but at most times gamma (min-SNR, Hang et al., 2303.09556). `times` are drawn evenly
    unless given. A `variance` that is learned is predicted beside (2102.09672).
    """

    whole = True  # timesteps are whole numbers
    last = 999

    def __init__(
        self,
        *,
        prediction: Literal["noise", "velocity", "sample"] = "noise",
        variance: Literal["fixed", "learned"] = "fixed",
        schedule: Literal["cosine", "linear", "scaled_linear"] = "cosine",
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        gamma: float | None = None,
        times: Times | None = None,
    ) -> None:
        self.prediction, self.schedule, self.gamma, self.times = prediction, schedule, gamma, times
        self.beta_start, self.beta_end = beta_start, beta_end
        self.variances = variance == "learned"

    @property
    def prediction_type(self) -> str:
        """The prediction as diffusers' schedulers call it."""
        return {"noise": "epsilon", "velocity": "v_prediction", "sample": "sample"}[self.prediction]

    @property
    def said(self) -> str:
        """The schedule of noise as diffusers' schedulers are told it."""
        if self.schedule == "cosine":
            return 'beta_schedule="squaredcos_cap_v2"'
        return f'beta_schedule="{self.schedule}", beta_start={self.beta_start}, beta_end={self.beta_end}'

    def signal(self) -> Tensor:
        """The signal's share of the variance at each step, float64 [1000]."""
        if self.schedule == "cosine":
            steps = torch.arange(1001, dtype=torch.float64, device="cpu") / 1000
            curve = ((steps + 0.008) / 1.008 * torch.pi / 2).cos().square()
            return (1 - (1 - curve[1:] / curve[:-1]).clamp(max=0.999)).cumprod(0)
        power = 1.0 if self.schedule == "linear" else 0.5
        ends = self.beta_start**power, self.beta_end**power
        betas = torch.linspace(*ends, 1000, dtype=torch.float64, device="cpu") ** (1 / power)
        return (1 - betas).cumprod(0)

    def draw(
        self, count: int, tokens: int | Sequence[int], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        """Timesteps int64 [count], for latents of so many tokens each, or of each of so many."""
        if self.times is None:
            return torch.randint(0, 1000, (count,), generator=generator, device=device)
        return (1000 * self.times.draw(count, tokens, generator, device)).long().clamp(0, 999)

    def noised(self, clean: Tensor, timesteps: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [n, ...] noised to timesteps [n], and what is to be predicted of them."""
        signal = beside(self.signal().to(clean, non_blocking=True)[timesteps.long()], clean)
        noised = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        match self.prediction:
            case "noise":
                return noised, noise
            case "velocity":
                return noised, signal.sqrt() * noise - (1 - signal).sqrt() * clean
            case "sample":
                return noised, clean
            case _:
                assert_never(self.prediction)

    def bound(self, clean: Tensor, noised: Tensor, timesteps: Tensor) -> Bound | None:
        """What variances cost that are predicted of latents [n, ...] noised to timesteps [n]; None: there are none."""
        return Bound(self.signal(), self.prediction, clean, noised, timesteps.long()) if self.variances else None

    def counts(self, clean: Tensor, timesteps: Tensor) -> Tensor | None:
        """What the error of each of the latents [n, ...] counts at its timestep [n]; None: 1."""
        if self.gamma is None:
            return None
        signal = self.signal()
        ratio = signal / (1 - signal)
        counts = ratio.clamp(max=self.gamma)
        match self.prediction:
            case "noise":
                counts = counts / ratio
            case "velocity":
                counts = counts / (ratio + 1)
            case "sample":
                pass
            case _:
                assert_never(self.prediction)
        return counts.to(clean, non_blocking=True)[timesteps.long()]


class RectifiedFlow:
    """The velocity from data to noise on the straight line between (Liu et al., 2209.03003).

    As diffusers' FlowMatchEulerDiscreteScheduler has it: timesteps are 1,000 sigma, from 0, data, to 1000, noise. Times
    are drawn evenly unless given. Errors count the same at each sigma, or by a `weighting` of SD3 (2403.03206) as
    diffusers' `compute_loss_weighting_for_sd3` has it; by sigma_sqrt nothing at 0.
    """

    whole = False
    last = 1000
    prediction_type = "flow_prediction"
    variances = False

    def __init__(self, *, weighting: Literal["sigma_sqrt", "cosmap"] | None = None, times: Times | None = None) -> None:
        self.weighting, self.times = weighting, times

    def draw(
        self, count: int, tokens: int | Sequence[int], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        """Timesteps float32 [count], for latents of so many tokens each, or of each of so many."""
        if self.times is None:
            return 1000 * torch.rand(count, generator=generator, device=device)
        return 1000 * self.times.draw(count, tokens, generator, device)

    def noised(self, clean: Tensor, timesteps: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [n, ...] noised to timesteps [n], and what is to be predicted of them."""
        sigma = beside(timesteps.to(clean) / 1000, clean)
        return (1 - sigma) * clean + sigma * noise, noise - clean

    def bound(self, clean: Tensor, noised: Tensor, timesteps: Tensor) -> None:
        """What variances cost: none are predicted."""

    def counts(self, clean: Tensor, timesteps: Tensor) -> Tensor | None:
        """What the error of each of the latents [n, ...] counts at its timestep [n]; None: 1."""
        sigma = timesteps.to(clean) / 1000
        match self.weighting:
            case None:
                return None
            case "sigma_sqrt":
                return torch.where(sigma > 0, sigma**-2.0, 0.0)
            case "cosmap":
                return 2 / (torch.pi * (1 - 2 * sigma + 2 * sigma**2))
            case _:
                assert_never(self.weighting)


DDPM = Diffusion()
"""The noise, of a cosine schedule, at evenly drawn steps."""

Flow = RectifiedFlow()
"""The velocity, at evenly drawn times."""


def noise_latents(
    objectives: Mapping[str, Any],
    ends: Mapping[str, Any],
    latents: Mapping[str, AnyLatents] | None,
    timesteps: Mapping[str, Tensor] | None,
    noise: Mapping[str, Tensor] | None,
    generator: torch.Generator | None,
    are_clean: Mapping[str, Tensor],
) -> tuple[dict[str, AnyLatents], dict[str, Tensor], dict[str, Aim]]:
    """Each modality's latents noised, their timesteps, and what is to be predicted; what is not given is drawn.

    Spans that `are_clean`, bool [n], stay as they are, at timestep 0. Of patches these, and timesteps, are one for each
    moment. How timesteps are drawn, one a span, may depend on how many tokens a modality's `ends` make of a latent.
    Computed in float32 or wider. Raises TypeError or ValueError for what does not fit.
    """
    latents, timesteps = named_latents("latents", latents, objectives), named("timesteps", timesteps, objectives)
    noise = named("noise", noise, objectives)
    if not isinstance(generator, torch.Generator | None):
        raise TypeError(f"generator must be a torch.Generator or None, not {reprlib.repr(generator)}")
    noised, times, aims = dict[str, AnyLatents](), {}, {}
    for name, x in latents.items():
        clean = values_of(x)
        check_floating("latents", name, clean)
        clean = clean.to(torch.promote_types(clean.dtype, torch.float32))
        device = clean.device if generator is None else generator.device
        t, epsilon = timesteps.get(name), noise.get(name)
        if t is None:
            if isinstance(x, Patched):
                t = drawn_moments(objectives[name], x, generator, device)
            else:
                tokens = patches_in(clean.shape[2:], ends[name].patch)
                t = objectives[name].draw(clean.shape[0], tokens, generator, device)
        else:
            spans = x.spans.shape[0] if isinstance(x, Patched) else clean.shape[0]
            check_timesteps(name, t, spans, whole=objectives[name].whole)
            if not torch.compiler.is_compiling() and outside(t, objectives[name]).any():
                raise ValueError(f"timesteps of {name} must be 0..{objectives[name].last}, not {t.tolist()}")
        if epsilon is None:
            epsilon = torch.randn(clean.shape, generator=generator, device=device, dtype=clean.dtype)
        check_floating("noise", name, epsilon)
        if epsilon.shape != clean.shape:
            raise ValueError(f"noise of {name} must be {[*clean.shape]}, as its latents, not {[*epsilon.shape]}")
        times[name] = t.to(clean.device)
        at = of_each(times[name], x)
        values, target = objectives[name].noised(clean, at, epsilon.to(clean))
        counts, kept = objectives[name].counts(clean, at), None
        bound = objectives[name].bound(clean, values, at)
        if name in are_clean:
            kept = of_each(are_clean[name], x)
            times[name] = torch.where(are_clean[name], 0, times[name])
            values = torch.where(beside(kept, clean), clean, values)
        aims[name] = Aim(target, counts, None if kept is None else ~kept, bound)
        noised[name] = x._replace(patches=values) if isinstance(x, Patched) else values
    return noised, times, aims


def drawn_moments(objective: Any, x: Patched, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Timesteps [M] of moments: one is drawn of each span, or of what times say, by how many tokens its span has."""
    counts = [moments_in(drawn_for(objective), grid) for grid in x.grids]
    tokens = [length for length, count in zip(x.lengths, counts, strict=True) for _ in range(count)]
    drawn: Tensor = objective.draw(len(tokens), tokens, generator, device)
    repeats = [moments_in(x.level, grid) // count for grid, count in zip(x.grids, counts, strict=True)]
    each = [repeat for repeat, count in zip(repeats, counts, strict=True) for _ in range(count)]
    return drawn.repeat_interleave(on_device(each, device).long(), output_size=sum(each))


def denoising_losses(
    predictions: Mapping[str, Tensor], aims: Mapping[str, Aim]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Each modality's mean squared error over all numbers of its latents, in float32 or wider, and how many they are.

    Squares are weighted as an aim says; latents that are not noised are left out. What variances cost, the second half
    of channels where they are predicted too, is added.

    0 where there are none. A latent counts as much as it has numbers.
    """
    losses, numbers = {}, {}
    for name, predicted in predictions.items():
        wide = predicted.to(torch.promote_types(predicted.dtype, torch.float32))
        target, weights, noised, bound = aims.get(name, Aim(wide.detach(), None))
        if bound is not None:
            wide, variance = wide.chunk(2, dim=1)
        squares = (wide - target.to(wide.dtype)).square()
        if weights is not None:
            squares = squares * beside(weights.to(wide.dtype), squares)
        if bound is not None:
            squares = squares + bound.cost(wide.detach(), variance)
        if noised is None:
            losses[name] = squares.sum() / max(1, wide.numel())
            numbers[name] = torch.full((), wide.numel(), device=wide.device)
            continue
        numbers[name] = noised.sum() * prod(wide.shape[1:])
        losses[name] = torch.where(beside(noised, squares), squares, 0.0).sum() / numbers[name].clamp(min=1)
    return losses, numbers
