"""What is made of tokens that find none of those to which they attend: nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from .layout import Layout, SortingLayout


def leave_out(x: Tensor, layout: Layout, mask: int) -> Tensor:
    """x [R, L, w], in attention's slots, and zeros where a token finds nothing by a mask, said by its number."""
    found = layout.rows.by_mask[mask].found
    return x if found is None else torch.where(found[:, :, None], x, 0)


def leave_out_sorted(x: Tensor, layout: SortingLayout, mask: int) -> Tensor:
    """The same of tokens as they are sorted [N, w], or of a step's [B, S, w]."""
    found = layout.rows.by_mask[mask].found
    if found is None or isinstance(layout.places, int):
        return leave_out(x, layout, mask)
    return torch.where(found.flatten()[layout.order][:, None], x, 0)
