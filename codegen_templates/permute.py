"""Rows of a tensor in another order, and back."""

from typing import Any

import torch
from torch import Tensor


class RowPermutation(torch.autograd.Function):
    """Row i of the result is row `order[i]` of x, or zeros where that is -1; `inverse` goes the other way.

    What one reads the other writes, so the gradient is gathered too: by `inverse`, and zero where nothing was read.
    Left to autograd it would be an accumulating scatter. `gaps`: whether `order`, and whether `inverse`, may hold -1.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, order: Tensor, inverse: Tensor, gaps: tuple[bool, bool]) -> Tensor:
        if not gaps[0]:
            return x.index_select(0, order)
        rows = x.index_select(0, order.clamp(min=0))
        present = (order >= 0).view(-1, *(1 for _ in x.shape[1:]))
        return torch.where(present, rows, torch.zeros((), dtype=x.dtype, device=x.device))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, tuple[bool, bool]], output: Tensor) -> None:
        _, order, inverse, ctx.gaps = inputs
        ctx.save_for_backward(order, inverse)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        order, inverse = ctx.saved_tensors
        return permute(gradients[0], inverse, order, gaps=(ctx.gaps[1], ctx.gaps[0])), None, None, None


def permute(x: Tensor, order: Tensor, inverse: Tensor, gaps: tuple[bool, bool] = (True, True)) -> Tensor:
    """Rows of x [n, ...] by `order` int64 [m], whose inverse is `inverse` int64 [n]; -1 where there is no partner.

    `gaps`: whether `order`, and whether `inverse`, may hold -1; where it does not, less is done. Where one may not, the
    other has none either unless it is longer, which a graph for all sizes does not ask.
    """
    if gaps != (True, True) and not torch.compiler.is_compiling() and order.shape == inverse.shape:
        gaps = (False, False)
    if not torch.is_grad_enabled():
        return RowPermutation.forward(x, order, inverse, gaps)  # at a third of what `apply` costs
    permuted: Tensor = RowPermutation.apply(x, order, inverse, gaps)  # type: ignore[no-untyped-call]
    return permuted
