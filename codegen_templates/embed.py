"""From a batch of ids to the stream's."""

from torch import Tensor

from .layout import Layout
from .tokens import look_up


def in_stream(ids: Tensor, layout: Layout) -> Tensor:
    """Ids int64 [B, S] at their places in the stream, [N] or [R, L]; 0 where there is none."""
    return look_up(ids.flatten(), layout.tokens, 0)
