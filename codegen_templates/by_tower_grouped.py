"""One copy of a module per block of modalities, all in one grouped matrix product."""

from bisect import bisect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .autocast import product_dtype
from .layout import Layout


class GroupedByTower(nn.ModuleDict):
    """Copies of a linear map, or of an embedding; group i of the tokens goes through the one that `route[i]` names.

    Without a route, group i goes through the i-th copy. `ends[i]` is the number of modalities that the first i + 1
    entries of `route` serve together; not given, each serves one.
    A copy that is more than its weight and bias, such as one that an adapter wraps, is called: then every copy works on
    every token.
    """

    def __init__(
        self,
        copies: Mapping[str, nn.Module],
        route: tuple[str, ...] | None = None,
        ends: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(copies)
        self.route = tuple(copies) if route is None else route
        self.ends = tuple(range(1, len(self.route))) if ends is None else ends

    @property
    def is_grouped_product(self) -> bool:
        """Whether its copies are linear maps, in one product."""
        return all(is_plain_copy(self[name]) and isinstance(self[name], nn.Linear) for name in self.route)

    def of(self, parameter: str) -> list[Tensor]:
        """The weight or bias of each group."""
        return [getattr(self[name], parameter) for name in self.route]

    def forward(self, pieces: list[Tensor], layout: Layout) -> list[Tensor]:
        if isinstance(layout.places, int):
            return [self[self.route[bisect(self.ends, layout.places)]](pieces[0])]
        x, until = pieces
        token = torch.arange(x.shape[0], dtype=torch.int32, device=x.device)
        group = torch.bucketize(token, until, right=True)
        if not all(is_plain_copy(self[name]) for name in self.route):
            return [self.one_by_one(x, group)]
        weights = self.of("weight")
        if not x.is_floating_point():  # ids of the tables, which stand one behind the other
            for index, table in enumerate(weights[:-1]):
                x = torch.where(group > index, x + table.shape[0], x)
            return [F.embedding(x, torch.cat(weights))]
        dtype = product_dtype(x)
        turned = [weight.t().to(dtype) for weight in weights]
        trained = tuple(index for index, weight in enumerate(weights) if weight.requires_grad)
        if torch.is_grad_enabled() and 0 < len(trained) < len(weights):
            y: Tensor = SomeTrained.apply(x.to(dtype), until, group, trained, *turned)  # type: ignore[no-untyped-call]
        else:
            y = F.grouped_mm(x.to(dtype), torch.stack(turned), offs=until)
        if getattr(self[self.route[0]], "bias", None) is not None:
            y = y + torch.stack(self.of("bias")).to(dtype)[group]
        return [y]

    def one_by_one(self, x: Tensor, group: Tensor) -> Tensor:
        """What each token's copy makes of it; `group` int64 [N]."""
        y: Tensor | None = None
        for index, name in enumerate(self.route):
            mine = group == index
            result: Tensor = self[name](x if x.is_floating_point() else torch.where(mine, x, 0))
            y = result if y is None else torch.where(mine[:, None], result, y)
        assert y is not None
        return y


class SomeTrained(torch.autograd.Function):
    """A grouped product where some weights are frozen, of which no gradients are made.

    Of the others' it is one product again, in which the tokens of frozen ones stand behind all groups and are passed
    over: how many they are is not read from the device.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, until: Tensor, group: Tensor, trained: tuple[int, ...], *weights: Tensor
    ) -> Tensor:
        """x [N, in], weights [in, out] each, those at the indices `trained` with gradients; `group` int64 [N]."""
        stacked = torch.stack(weights)
        ctx.save_for_backward(x, until, group, stacked)
        ctx.trained = trained
        return F.grouped_mm(x, stacked, offs=until)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, until, group, stacked = ctx.saved_tensors
        count, trained = stacked.shape[0], ctx.trained
        gradient = gradient.contiguous()
        of_x = F.grouped_mm(gradient, stacked.mT, offs=until) if ctx.needs_input_grad[0] else None
        if trained != tuple(range(len(trained))):
            frozen = group != trained[0]
            for index in trained[1:]:
                frozen = frozen & (group != index)
            order = torch.argsort(frozen, stable=True)
            x, gradient = x[order], gradient[order]
            sizes = until.diff(prepend=torch.zeros_like(until[:1]))
            until = torch.stack([sizes[index] for index in trained]).cumsum(0, dtype=torch.int32)
        of_weights = iter(F.grouped_mm(x.mT, gradient, offs=until[: len(trained)]))
        return of_x, None, None, None, *(next(of_weights) if index in trained else None for index in range(count))


def is_plain_copy(copy: nn.Module) -> bool:
    """Whether a copy's weight and bias are all there is to it: no hook is to be called, no other `forward`."""
    hooks = copy._forward_pre_hooks, copy._forward_hooks, copy._backward_pre_hooks, copy._backward_hooks
    return type(copy) in (nn.Linear, nn.Embedding) and not any(hooks) and "forward" not in vars(copy)
