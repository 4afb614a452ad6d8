"""From the stream back to the batch."""

from torch import Tensor

from .layout import Layout
from .permute import permute


def to_batch(x: Tensor, layout: Layout) -> Tensor:
    """The stream [N, ...] (or [R, L, ...]) as the batch [B, S, ...] it came from, zeros at padding."""
    if layout.batch is None or isinstance(layout.places, int):
        return x
    places = x.flatten(0, layout.tokens.ndim - 1)
    batch, sequence = layout.batch.shape
    return permute(places, layout.batch.flatten(), layout.tokens.flatten()).view(batch, sequence, *places.shape[1:])
