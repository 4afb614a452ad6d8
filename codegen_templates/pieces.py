"""Pieces of the stream: in the layers, modalities that share all that is there are one."""

from __future__ import annotations

import torch
from torch import Tensor

from .layout_sorted import SortedLayout


def together(x: list[Tensor], layout: SortedLayout, counts: tuple[int, ...]) -> list[Tensor]:
    """Pieces of one modality each joined, the i-th then of `counts[i]`. A step of one modality is one piece."""
    if isinstance(layout.places, int):
        return x
    each = iter(x)
    return [next(each) if count == 1 else torch.cat([next(each) for _ in range(count)]) for count in counts]


def apart(x: list[Tensor], layout: SortedLayout, counts: tuple[int, ...]) -> list[Tensor]:
    """What `together` has joined, a piece for each modality again."""
    if isinstance(layout.places, int):
        return x
    sizes = iter(piece.shape[0] for piece in layout.pieces)
    parts = [torch.split(piece, [next(sizes) for _ in range(count)]) for piece, count in zip(x, counts, strict=True)]
    return [part for parted in parts for part in parted]
