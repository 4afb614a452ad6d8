"""What a continuous modality learns: how its latents are noised, and what is to be predicted."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .latent_checks import check_floating, check_timesteps, named, outside


class DDPM:
    """The noise, at one of 1,000 steps of a cosine schedule (Ho et al., 2006.11239; Nichol and Dhariwal, 2102.09672).

    As diffusers' DDPMScheduler has it, with squaredcos_cap_v2: step 0 has the least noise.
    """

    whole = True  # timesteps are whole numbers
    last = 999

    @staticmethod
    def signal() -> Tensor:
        """The signal's share of the variance at each step, float64 [1000]."""
        steps = torch.arange(1001, dtype=torch.float64, device="cpu") / 1000
        curve = ((steps + 0.008) / 1.008 * torch.pi / 2).cos().square()
        return (1 - (1 - curve[1:] / curve[:-1]).clamp(max=0.999)).cumprod(0)

    @staticmethod
    def draw(count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """Timesteps int64 [count], all equally likely."""
        return torch.randint(0, 1000, (count,), generator=generator, device=device)

    @staticmethod
    def noised(clean: Tensor, timesteps: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [n, ...] noised to timesteps [n], and what is to be predicted of them."""
        signal = DDPM.signal().to(clean, non_blocking=True)[timesteps.long()].view(-1, *(1 for _ in clean.shape[1:]))
        return signal.sqrt() * clean + (1 - signal).sqrt() * noise, noise


class Flow:
    """The velocity from data to noise on the straight line between (rectified flow, Liu et al., 2209.03003).

    As diffusers' FlowMatchEulerDiscreteScheduler has it: timesteps are 1,000 sigma, from 0, data, to 1000, noise.
    """

    whole = False
    last = 1000

    @staticmethod
    def draw(count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """Timesteps float32 [count], all equally likely."""
        return 1000 * torch.rand(count, generator=generator, device=device)

    @staticmethod
    def noised(clean: Tensor, timesteps: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [n, ...] noised to timesteps [n], and what is to be predicted of them."""
        sigma = (timesteps.to(clean) / 1000).view(-1, *(1 for _ in clean.shape[1:]))
        return (1 - sigma) * clean + sigma * noise, noise - clean


def noise_latents(
    objectives: Mapping[str, Any],
    latents: Mapping[str, Tensor] | None,
    timesteps: Mapping[str, Tensor] | None,
    noise: Mapping[str, Tensor] | None,
    generator: torch.Generator | None,
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Each modality's latents noised, their timesteps, and what is to be predicted; what is not given is drawn.

    Computed in float32 or wider. Raises TypeError or ValueError for what does not fit.
    """
    latents, timesteps = named("latents", latents, objectives), named("timesteps", timesteps, objectives)
    noise = named("noise", noise, objectives)
    if not isinstance(generator, torch.Generator | None):
        raise TypeError(f"generator must be a torch.Generator or None, not {reprlib.repr(generator)}")
    noised, times, targets = {}, {}, {}
    for name, clean in latents.items():
        check_floating("latents", name, clean)
        clean = clean.to(torch.promote_types(clean.dtype, torch.float32))
        device = clean.device if generator is None else generator.device
        t, epsilon = timesteps.get(name), noise.get(name)
        if t is None:
            t = objectives[name].draw(clean.shape[0], generator, device)
        else:
            check_timesteps(name, t, clean.shape[0], objectives[name])
            if not torch.compiler.is_compiling() and outside(t, objectives[name]).any():
                raise ValueError(f"timesteps of {name} must be 0..{objectives[name].last}, not {t.tolist()}")
        if epsilon is None:
            epsilon = torch.randn(clean.shape, generator=generator, device=device, dtype=clean.dtype)
        check_floating("noise", name, epsilon)
        if epsilon.shape != clean.shape:
            raise ValueError(f"noise of {name} must be {[*clean.shape]}, as its latents, not {[*epsilon.shape]}")
        times[name] = t.to(clean.device)
        noised[name], targets[name] = objectives[name].noised(clean, times[name], epsilon.to(clean))
    return noised, times, targets


def denoising_losses(
    predictions: Mapping[str, Tensor], targets: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Each modality's mean squared error over all numbers of its latents, in float32 or wider, and how many they are.

    0 where there are none. All latents of a modality have one size, so this is the mean over them too.
    """
    losses, numbers = {}, {}
    for name, predicted in predictions.items():
        wide = predicted.to(torch.promote_types(predicted.dtype, torch.float32))
        target = targets[name].to(wide.dtype) if name in targets else wide.detach()
        losses[name] = (wide - target).square().sum() / max(1, wide.numel())
        numbers[name] = torch.full((), wide.numel(), device=wide.device)
    return losses, numbers
