"""From a batch of ids to the stream's, and to attention's positions."""

from typing import Any

import torch
from torch import Tensor

from .checks import refuse
from .layout import Layout
from .tokens import look_up


def in_stream(ids: Tensor, layout: Layout) -> Tensor:
    """Ids int64 [B, S] at their places in the stream, [N] or [R, L]; 0 where there is none."""
    if isinstance(layout.places, int):
        return ids
    return look_up(ids.flatten(), layout.tokens, 0)


def positions_in_stream(positions: Tensor, layout: Any, size: int) -> Tensor:
    """The positions int64 [R, L] of attention's slots at their places in the stream, [N] or [R, L].

    Raises ValueError where one is not below `size`.
    """
    if not torch.compiler.is_compiling():

        def said(row: int, column: int) -> str:
            return f"a position is {int(positions[row, column])}, and learned are 0..{size - 1}"

        refuse([((positions < 0) | (positions >= size), said)], reads=False)
    if isinstance(layout.places, int) or layout.tokens.ndim == 2:
        return positions
    return positions.flatten()[layout.order]


def positions_in(layout: Layout, position_ids: Tensor | None) -> Tensor:
    """The positions int64 [R, L] of attention's slots: those given, [B, S] or one for all rows, or from 0.

    Of given ones on several axes, [B, S, axes], they are [R, L, axes].
    """
    if position_ids is None:
        return layout.rows.positions
    if position_ids.ndim < 3:
        return look_up(position_ids.expand_as(layout.modality_ids).flatten(), layout.rows.slots, 0)
    of_batch = position_ids.expand(*layout.modality_ids.shape, -1).flatten(0, 1)
    axes = [look_up(axis, layout.rows.slots, 0) for axis in of_batch.unbind(-1)]
    return torch.stack(axes, dim=-1)
