"""Attention in chunks of rows, where tokens see those near them alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .chosen import Chosen
from .masks import Matrix
from .permute import permute
from .rows_compact import compact_rows
from .sizes import mark_sizes
from .tokens import invert


class Chunks(NamedTuple):
    """Slots cut into chunks of C that follow one another in a row, each of which sees none but those around it.

    With `first` they come after the first n slots of their row, each of which sees all before it.
    """

    first: Chosen | None  # [R, n]
    own: Chosen  # [P, C]: the slots of each chunk
    near: tuple[Chosen, ...]  # each [P, C]: of the chunks around each chunk, in their order, itself among them
    places: Tensor  # int64 [R, L]: where each slot's result stands among those of `first`, and then of `own`
    number: str  # what P is called: equal where it is

    def attend(
        self,
        attention: Callable[..., Tensor],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        matrix: Matrix,
        scale: float | None,
        softcap: float | None,
        sinks: Tensor | None,
    ) -> Tensor:
        """As `attend`, which is `attention`; the matrix says who sees whom of the chunks around each."""
        results, answers = [], []
        if self.first is not None:
            theirs = None if sinks is None else self.first.take(sinks)
            given = [self.first.take(x) for x in (q, k, v)]
            results.append(attention(*given, None, None, True, scale, softcap, theirs).flatten(0, 1))
            answers.append(self.first.order.flatten())
        theirs = None if sinks is None else self.own.take(sinks)
        keys, values = (torch.cat([chosen.take(x) for chosen in self.near], dim=1) for x in (k, v))
        queries = self.own.take(q)
        # One for each, since torch asks of a matrix for all whether there is but one.
        matrix = matrix._replace(added=matrix.added.expand(queries.shape[0], -1, -1, -1))
        mixed = attention(queries, keys, values, matrix, None, False, scale, softcap, theirs)
        results.append(mixed.flatten(0, 1))
        answers.append(self.own.order.flatten())
        joined = permute(torch.cat(results), self.places.flatten(), torch.cat(answers))
        return joined.view(*self.places.shape, mixed.shape[2])

    def mark_sizes(self) -> None:
        """Tell the compiler which sizes vary."""
        mark_sizes(self.places, "rows", "length")
        for name, chosen in (("rows", self.first), *((self.number, each) for each in self.near)):
            if chosen is not None:
                mark_sizes(chosen.order, name)
                mark_sizes(chosen.inverse, "rows", "length")


def cut_chunks(modality_ids: Tensor, size: int, before: int, after: int, *, apart: bool) -> Chunks:
    """Chunks of a size, which see as many chunks before and after them.

    `modality_ids` int64 [R, L], -1 where there is no token; tokens follow one another as if there were no such slots.
    `apart`: the first `before` chunks of each row are one, which sees itself causally. Reads nothing from the device.
    """
    rows, length = modality_ids.shape
    slots = compact_rows(modality_ids)
    chunks = torch.unflatten(F.pad(slots, (0, -length % size), value=-1), 1, (-1, size))
    lead, count = before if apart else 0, chunks.shape[1]
    padded = F.pad(chunks, (0, 0, before, after), value=-1)

    def chosen(order: Tensor) -> Chosen:
        order = order.clone(memory_format=torch.contiguous_format)  # a graph is for one layout in memory
        return Chosen(order, invert(order.flatten(), rows * length).view(rows, length))

    near = [chosen(padded[:, shift + lead : shift + count].flatten(0, 1)) for shift in range(before + 1 + after)]
    first = chosen(slots[:, : lead * size]) if apart else None
    own = near[before]
    places = own.inverse
    if first is not None:
        places = torch.where(places >= 0, places + first.order.numel(), first.inverse)
    return Chunks(first, own, tuple(near), places, f"chunks of {size} after {lead}")
