"""From a batch of ids to the stream's, and to attention's positions."""

from torch import Tensor

from .layout import Layout
from .tokens import look_up


def in_stream(ids: Tensor, layout: Layout) -> Tensor:
    """Ids int64 [B, S] at their places in the stream, [N] or [R, L]; 0 where there is none."""
    if isinstance(layout.places, int):
        return ids
    return look_up(ids.flatten(), layout.tokens, 0)


def positions_in(layout: Layout, position_ids: Tensor | None) -> Tensor:
    """The positions int64 [R, L] of attention's slots: those given, [B, S] or one for all rows, or from 0."""
    if position_ids is None:
        return layout.rows.positions
    return look_up(position_ids.expand_as(layout.modality_ids).flatten(), layout.rows.slots, 0)
