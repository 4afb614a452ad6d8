"""Some slots of attention's rows, in rows of their own."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .permute import permute


class Chosen(NamedTuple):
    """Some slots, each at most once, in rows of their own; -1 stands for none."""

    order: Tensor  # int64 [Q, n]: the slots, numbered through all of attention's rows
    inverse: Tensor  # int64 [R, L]: the place in `order` of each slot
    full: bool = False  # whether `order` is known to have no -1; one graph serves those that have and have not

    def take(self, x: Tensor) -> Tensor:
        """What stands in these slots, [Q, n, ...], of x [R, L, ...]."""
        gaps = (torch.compiler.is_compiling() or not self.full, True)
        taken = permute(x.flatten(0, 1), self.order.flatten(), self.inverse.flatten(), gaps)
        return taken.view(*self.order.shape, *x.shape[2:])
