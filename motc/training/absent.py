"""Towers of which a training step has no tokens, and an optimizer that leaves them as they are."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from motc.training.copies import Trained

AnyOptimizer = TypeVar("AnyOptimizer", bound=Optimizer)


def skip_absent(optimizer: AnyOptimizer, model: nn.Module) -> AnyOptimizer:
    """Have an optimizer leave alone the parameters of modalities that a step has no tokens of; it is returned.

    These have gradients of 0, by which weight decay and momentum would move them all the same. Before each step, where
    all gradients of what some modalities have to themselves are 0, they are set to None, which every optimizer of torch
    passes over: its state of them stays, too. That is one pass over the gradients and a read from the device. Where
    gradients were accumulated, or reduced over processes, it is the whole batch that counts.
    Raises TypeError for what is no model of motc's.
    """
    of = Trained(model)
    everyone = frozenset(of.model.names)
    sets: dict[frozenset[str], list[nn.Parameter]] = {}
    for copy, theirs in of.parameters.items():
        if frozenset(copy.modalities) != everyone:
            sets.setdefault(frozenset(copy.modalities), []).extend(theirs.values())
    optimizer.register_step_pre_hook(_Skip(list(sets.values())))
    return optimizer


class _Skip:
    """What an optimizer calls before each step."""

    def __init__(self, sets: list[list[nn.Parameter]]) -> None:
        self.sets = sets

    @torch.no_grad()
    def __call__(self, optimizer: Optimizer, arguments: Any, named: Any) -> None:
        present = [[each for each in theirs if each.grad is not None] for theirs in self.sets]
        counted = [theirs for theirs in present if theirs]
        if not counted:
            return
        moved = torch.stack([_any([local(each.grad) for each in theirs]) for theirs in counted])
        if any(hasattr(each.grad, "to_local") for each in counted[0]) and dist.is_initialized():
            dist.all_reduce(moved, dist.ReduceOp.MAX)
        for theirs, is_moved in zip(counted, moved.tolist(), strict=True):
            if not is_moved:
                for each in theirs:
                    each.grad = None


def local(gradient: Any) -> Tensor:
    """The part of a gradient that this process has."""
    part: Tensor = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    return part


def _any(gradients: list[Tensor]) -> Tensor:
    """Whether a number is other than 0, int32 []. NaN is."""
    return torch.stack([gradient.count_nonzero() for gradient in gradients]).sum().clamp(max=1).to(torch.int32)
