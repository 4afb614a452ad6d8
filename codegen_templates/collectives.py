"""What ranks add up and exchange, in the forward and in the backward."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def summed(x: Tensor, group: Any) -> Tensor:
    """The sum of all ranks' x, as a tensor of its own."""
    total = x.contiguous().clone()
    dist.all_reduce(total, group=group)
    return total


class SumGradients(torch.autograd.Function):
    """x, which all ranks have and each makes something else of: its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return summed(gradients[0], ctx.group), None


class SumResults(torch.autograd.Function):
    """The sum of what each rank has made; all go on with it alike, so its gradient is each one's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        return summed(x, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class JoinResults(torch.autograd.Function):
    """What each rank has made, [..., n], one after the other: [..., n * ranks]; all go on with it alike."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.rank, ctx.size = dist.get_rank(group), x.shape[-1]
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, x.contiguous(), group=group)
        return torch.cat(parts, dim=-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].narrow(-1, ctx.rank * ctx.size, ctx.size).contiguous(), None


def sum_gradients(x: Tensor, group: Any) -> Tensor:
    """As `SumGradients`."""
    y: Tensor = SumGradients.apply(x, group)  # type: ignore[no-untyped-call]
    return y


def sum_results(x: Tensor, group: Any) -> Tensor:
    """As `SumResults`."""
    y: Tensor = SumResults.apply(x, group)  # type: ignore[no-untyped-call]
    return y


def join_results(x: Tensor, group: Any) -> Tensor:
    """As `JoinResults`."""
    y: Tensor = JoinResults.apply(x, group)  # type: ignore[no-untyped-call]
    return y


class SumOver(torch.autograd.Function):
    """The sum of all ranks' x, of which each makes something else: so its gradient is the sum of theirs, too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return summed(x, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return summed(gradients[0], ctx.group), None


def sum_over(x: Tensor, group: Any) -> Tensor:
    """As `SumOver`."""
    y: Tensor = SumOver.apply(x, group)  # type: ignore[no-untyped-call]
    return y


class Sent(torch.autograd.Function):
    """Of x [n, ...] the first `there[0]` go to rank 0 and so on; what comes, `here[i]` from rank i, in their order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: list[int], here: list[int], group: Any) -> Tensor:
        ctx.way = there, here, group
        y = x.new_empty(sum(here), *x.shape[1:])
        dist.all_to_all_single(y, x.contiguous(), here, there, group=group)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        there, here, group = ctx.way
        return sent(gradients[0], here, there, group), None, None, None


class ScaleGradients(torch.autograd.Function):
    """x, whose gradient is multiplied."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, by: float) -> Tensor:
        ctx.by = by
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.by, None


def sent(x: Tensor, there: list[int], here: list[int], group: Any) -> Tensor:
    """As `Sent`."""
    y: Tensor = Sent.apply(x, there, here, group)  # type: ignore[no-untyped-call]
    return y


def scale_gradients(x: Tensor, by: float) -> Tensor:
    """As `ScaleGradients`."""
    y: Tensor = ScaleGradients.apply(x, by)  # type: ignore[no-untyped-call]
    return y


def exchanged(x: Tensor, group: Any) -> Tensor:
    """Part i of x [ranks, ...] goes to rank i, whose part for this one comes in its place; so do gradients."""
    each = [1] * x.shape[0]
    return sent(x, each, each, group)
