"""Pieces of tokens for a mixture of experts that has parameters for each."""

from __future__ import annotations

from bisect import bisect
from itertools import accumulate

from torch import Tensor

from .layout import Layout


def every_piece(pieces: list[Tensor], layout: Layout, counts: tuple[int, ...]) -> list[Tensor]:
    """Pieces of tokens [n, w], piece i of `counts[i]` modalities.

    In a step of generating whose tokens [B, S, w] are in one piece the others are empty.
    """
    if not isinstance(layout.places, int):
        return pieces
    tokens, theirs = pieces[0].flatten(0, -2), bisect([*accumulate(counts[:-1])], layout.places)
    return [tokens if piece == theirs else tokens[:0] for piece in range(len(counts))]


def own_piece(pieces: list[Tensor], layout: Layout, counts: tuple[int, ...]) -> list[Tensor]:
    """What became of such pieces; of a step's tokens the one that they are in, [B, S, w]."""
    if not isinstance(layout.places, int):
        return pieces
    theirs = pieces[bisect([*accumulate(counts[:-1])], layout.places)]
    return [theirs.view(*layout.modality_ids.shape, -1)]
