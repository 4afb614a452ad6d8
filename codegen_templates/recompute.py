"""What is cheaper to make again in the backward than to keep."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .layout import AnyLayout


def recomputed(function: Callable[[Tensor, AnyLayout], list[Tensor]], x: Tensor, layout: AnyLayout) -> list[Tensor]:
    """function(x, layout). In a compiled model what it makes on its way to a product is made again in the backward.

    Only what the backward reads is made again, so no product is. Eager, where all of it would be, everything is kept.
    """
    if torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting():
        pieces: list[Tensor] = checkpoint(function, x, layout, use_reentrant=False)
        return pieces
    return function(x, layout)
