"""Rows whose slots lie on several ranks, each of which has every n-th: attention has all slots, for some of the heads.

"DeepSpeed Ulysses" (Jacobs et al., 2023): slots are exchanged for heads before attention, and back after it, so that
whatever attention is told of whole rows, such as masks, holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .collectives import exchanged, sum_over

Pair = tuple[Tensor, Tensor]


class RowRanks(NamedTuple):
    """The ranks that rows of `length` slots lie on, and which of them this one is."""

    rank: int
    ranks: int
    group: Any
    length: int

    def by_head(self, x: Tensor) -> Tensor:
        """Of all heads in some slots [R, n, heads, w] some heads in all slots, [R, L, heads / ranks, w].

        Where ranks are more than heads, several have the same one.
        """
        if x.shape[2] < self.ranks:
            x = x.repeat_interleave(self.ranks // x.shape[2], dim=2)
        parts = torch.unflatten(x, 2, (self.ranks, -1)).permute(2, 0, 1, 3, 4)
        return exchanged(parts, self.group).permute(1, 2, 0, 3, 4).flatten(1, 2)[:, : self.length]

    def by_slot(self, x: Tensor) -> Tensor:
        """The way back, of [R, L, w] to [R, n, w * ranks]."""
        padded = F.pad(x, (0, 0, 0, -self.length % self.ranks))
        parts = torch.unflatten(padded, 1, (-1, self.ranks)).permute(2, 0, 1, 3)
        return exchanged(parts, self.group).permute(1, 2, 0, 3).flatten(2)

    def cut(self, x: Tensor, missing: float = 0) -> Tensor:
        """This rank's slots of rows [R, L, ...]: [R, n, ...], n being that of all ranks; `missing` after the last."""
        padding = (0, 0) * (x.ndim - 2) + (0, -self.length % self.ranks)
        return F.pad(x, padding, value=missing)[:, self.rank :: self.ranks]

    def joined(self, x: Tensor) -> Tensor:
        """The way back, on all ranks."""
        slots = torch.arange(x.shape[1], device=x.device) * self.ranks + self.rank
        whole = x.new_zeros(x.shape[0], x.shape[1] * self.ranks, *x.shape[2:]).index_copy(1, slots, x)
        return sum_over(whole, self.group)[:, : self.length]


ON: list[RowRanks | None] = []
"""The ranks that layers' rows lie on while a layer runs, the last one; empty or None where they are whole."""


@contextmanager
def rows_on(ranks: RowRanks | None) -> Iterator[None]:
    """What is called within has rows on these ranks, or whole ones."""
    ON.append(ranks)
    try:
        yield
    finally:
        ON.pop()


def row_ranks() -> RowRanks | None:
    """The ranks that rows lie on; None: they are whole."""
    return ON[-1] if ON else None


def attend_over_heads(
    attention: Callable[[Tensor, Sequence[Pair], Tensor | None], Tensor],
    ranks: RowRanks,
    q: Tensor,
    read: Sequence[Pair],
    sinks: Tensor | None,
) -> Tensor:
    """What `attention` finds in whole rows for this rank's slots [R, n, heads, head_dim]: [R, n, heads * value_dim]."""
    whole = {id(x): x for pair in read for x in pair}
    whole = {key: ranks.by_head(x) for key, x in whole.items()}
    of_heads = None if sinks is None else ranks.by_head(sinks[..., None])[..., 0]
    with rows_on(None):
        mixed = attention(ranks.by_head(q), [(whole[id(k)], whole[id(v)]) for k, v in read], of_heads)
    return ranks.by_slot(mixed.flatten(2))


def over_rows(x: Tensor) -> Tensor:
    """The sum of x over the ranks that rows lie on; x itself where they are whole."""
    ranks = row_ranks()
    return x if ranks is None else sum_over(x, ranks.group)
