"""Results that nothing is learnt from."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def untrained(result: Tensor, module: nn.Module, *given: Tensor) -> Tensor:
    """What a module made of what it was given, without the backward of making it: parameters, and what is named as
    given, get gradients of 0.

    Who averages gradients over processes waits for those of all parameters.
    """
    if not torch.is_grad_enabled():
        return result
    result = result.detach()
    parameters = (getattr(part, name) for part in module.modules() for name, _ in part.named_parameters(recurse=False))
    for each in (*given, *parameters):  # by their names: of ranks that share them what each computes with
        if each.requires_grad:
            result = result + each[:0].sum()
    return result
