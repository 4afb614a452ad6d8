"""Attention that reaches so far."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .chunks import Chunks, cut_chunks
from .constants import constant
from .masks import Mask, visibility
from .tokens import look_up

COPIES = 256
"""To cut a row costs as much as so many keys more for each query: what chunks take is copied, and put together."""


class Window(Mask):
    """Another mask, of which a token sees itself and what is less than `window` tokens before it in its document.

    What is after it is seen as the other mask has it, or if `both_ways` only less than `window` tokens away. Padding is
    not counted.
    """

    def __init__(self, mask: Mask, window: int, *, both_ways: bool = False) -> None:
        self.mask, self.window, self.reach, self.both_ways = mask, window, window, both_ways
        self.kept = window
        self.kernel, self.prefix, self.runs = mask.kernel, mask.prefix, mask.runs
        self.bidirectional, self.delimited = mask.bidirectional, mask.delimited

    def allows(self, modality_ids: Tensor, document_ids: Tensor | None, together: Tensor) -> Tensor:
        number = (modality_ids >= 0).cumsum(1, dtype=torch.int32)
        before = number[:, :, None] - number[:, None, :]
        near = (before.abs() if self.both_ways else before) < self.reach
        return near & self.mask.allows(modality_ids, document_ids, together)

    def seen_by_next(self, modality_ids: Tensor, known: Tensor) -> Tensor | None:
        within = self.mask.seen_by_next(modality_ids, known)
        if known.shape[1] <= self.reach:
            return within
        number = (known >= 0).cumsum(1)
        near = number[:, -1:] - number < self.reach
        return near if within is None else near & within

    def chunks(self, modality_ids: Tensor, document_ids: Tensor | None, reads: bool) -> tuple[Chunks, Tensor] | None:
        """Chunks of half a window, which see two before them, and one after them where a run sees all of itself.

        None where tokens see others further away, by a prefix or a longer run, or which run a token is in is told by
        others further away, as with delimiters; or where a matrix of whole rows costs less. If the mask is causal and
        each row is a document, its first tokens see all before them, and all chunks after these the same: one small
        matrix is enough.
        """
        size, before, after = self.reach // 2, 2, 2 if self.both_ways else 0
        if self.prefix or self.delimited or size < 2:
            return None
        has_runs = bool(self.bidirectional or self.runs)
        after = 1 if has_runs else after
        apart = self.mask.kernel == "causal" and document_ids is None
        lead, length, meets = before * size if apart else 0, modality_ids.shape[1], (before + 1 + after) * size
        pairs = lead * lead / 2 + (length - lead) * meets  # the first are half of a square
        if pairs + COPIES * length > length * length or (not apart and length < 4 / 3 * meets):
            return None
        if has_runs and (not reads or int(self._longest_run(modality_ids)) > size + 1):
            return None
        chunks = cut_chunks(modality_ids, size, before, after, apart=apart)
        if apart:
            ids, documents = modality_ids.new_zeros(1, 3 * size), None
        else:
            around = torch.cat([chosen.order for chosen in chunks.near], dim=1)
            ids = look_up(modality_ids.flatten(), around, -1)
            documents = None if document_ids is None else look_up(document_ids.flatten(), around, -1)
        visible = visibility(self, ids, documents)[:, before * size : (before + 1) * size]
        return chunks, visible[:, None].contiguous()

    def _longest_run(self, modality_ids: Tensor) -> Tensor:
        """How many tokens at most, one behind the other, are of modalities of which runs see all of themselves."""
        real, number = modality_ids >= 0, (modality_ids >= 0).cumsum(1)
        others = real & ~torch.isin(modality_ids, constant(self.bidirectional, modality_ids.device))
        return (number - torch.where(others, number, 0).cummax(dim=1).values).max()

    def views(self, modality_ids: Tensor) -> Any:
        return self.mask.views(modality_ids)
