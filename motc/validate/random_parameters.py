"""Random parameters, under which a mistake shows."""

from __future__ import annotations

import torch
from torch import nn


def randomise(module: nn.Module, generator: torch.Generator) -> None:
    """Random parameters of a size that keeps activations near one: scales near 1, matrices by their fan-in.

    Corrections of routers are of the size of the scores that they are added to.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if "norm" in name and name.endswith(".weight"):
                parameter.copy_(1 + 0.3 * noise)
            elif parameter.ndim == 4:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            elif parameter.ndim >= 2 and "embedding" not in name and "norm" not in name:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)
            else:
                parameter.copy_(0.5 * noise)
        for name, buffer in module.named_buffers():
            if name.endswith(".correction"):
                buffer.copy_(0.2 * torch.randn(buffer.shape, generator=generator))
