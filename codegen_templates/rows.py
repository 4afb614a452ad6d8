"""The rows that attention works on: a place in one is a slot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .masks import Mask, Matrix, mask_sizes, visibility
from .sizes import mark_sizes
from .tokens import look_up, token_before


class Rows(NamedTuple):
    """Attention's rows, and who sees whom in them by one mask; -1 stands for a slot without a token."""

    slots: Tensor  # int64 [R, L]: which token of the flattened batch stands in each slot
    modality_ids: Tensor  # int64 [R, L]: its modality
    positions: Tensor  # int64 [R, L]: from 0 in each document
    mask: Tensor | None  # bool [R, 1, L, L]: who sees whom; None: attention needs no matrix
    views: Any = None  # the `Views` by which it needs none; None: the mask's own kernel does
    hold_documents: bool = False  # whether a row may be several documents, which `mask` keeps apart
    chunks: Any = None  # the `Chunks` of the rows which `mask` is of, if it is not of whole rows
    others: tuple[Any, ...] = ()  # the same `Rows` by each other mask that layers have
    found: Tensor | None = None  # bool [R, L]: which tokens find some of those to which they attend; None: all

    @property
    def by_mask(self) -> tuple[Rows, ...]:
        """These rows by each mask that layers have, in the order of a model's `masks`."""
        return (self, *self.others)

    def matrices(self, dtype: torch.dtype, masks: tuple[int, ...]) -> list[Matrix | None]:
        """For each layer the matrix of its mask, which is one of `by_mask`; each is made once."""
        each = [rows.matrix(dtype) for rows in self.by_mask]
        return [each[mask] for mask in masks]

    def of_step(self, positions: Tensor, masks: list[Tensor | None], found: Sequence[Tensor | None] = ()) -> Rows:
        """Rows of S more tokens, int64 [R, S]: what each sees by each mask, bool [R, 1, S, T]; None: all.

        `found`, bool [R, S], is as `Rows` has it, for each mask; empty: None for each.
        """
        step = self._replace(positions=positions, chunks=None, views=None, others=(), found=None)
        each = zip(masks, found or [None] * len(masks), strict=True)
        rows, *others = [step._replace(mask=mask, found=finds) for mask, finds in each]
        return rows._replace(others=tuple(others))

    def matrix(self, dtype: torch.dtype) -> Matrix | None:
        """The mask for scores of a dtype, if there is one. Made once for all layers that have it."""
        if self.mask is None:
            return None
        zeros = torch.zeros(self.mask.shape, dtype=dtype, device=self.mask.device)
        added = zeros.masked_fill_(~self.mask, float("-inf"))
        return Matrix(added, self.mask if self.hold_documents else None, self.chunks)

    def mark_sizes(self) -> None:
        """Tell the compiler which sizes vary."""
        for x in (self.slots, self.modality_ids, self.positions):
            mark_sizes(x, "rows", "length")
        for rows in self.by_mask:
            if rows.mask is not None:
                mark_sizes(rows.mask, *mask_sizes(rows.chunks))
            if rows.found is not None:
                mark_sizes(rows.found, "rows", "length")
            if rows.chunks is not None:
                rows.chunks.mark_sizes()
            if rows.views is not None:
                rows.views.mark_sizes()


def fill_rows(
    slots: Tensor,
    modality_ids: Tensor,
    document_ids: Tensor | None,
    masks: tuple[Mask, ...],
    plain: tuple[str, ...],
    one_document: bool = False,
    reads: bool = False,
    in_chunks: bool = True,
) -> Rows:
    """The rows whose slots hold these tokens of the batch, int64 [R, L]; modality_ids and document_ids are [B, S].

    For a mask there is a matrix of who sees whom unless its kernel is one of those that are right for these rows,
    `plain`, or it can be cut into views; either way its window, if it has one, must cover the rows. Where it does not,
    rows may be cut `in_chunks`, between which there are small matrices. `one_document`: each row is known to be one,
    unpadded, as views need it. `reads`: whether sizes may be read back from the device.
    """

    def covers(mask: Mask) -> bool:
        # In a graph that is for rows of any length, none is known to be short.
        return mask.window is None or (not torch.compiler.is_compiling() and slots.shape[1] <= mask.window)

    modalities = look_up(modality_ids.flatten(), slots, -1)
    documents = None
    if document_ids is None:
        positions = slots.clamp(min=0) % modality_ids.shape[1]
    else:
        positions = look_up(document_positions(modality_ids, document_ids).flatten(), slots, 0)
        if any(mask.kernel not in plain or not covers(mask) for mask in masks):
            documents = look_up(document_ids.flatten(), slots, -1)

    def rows_by(mask: Mask) -> Rows:
        if mask.kernel in plain and covers(mask):
            return Rows(slots, modalities, positions, None)
        views = mask.views(modalities) if one_document and covers(mask) else None
        if views is not None:
            return Rows(slots, modalities, positions, None, views)
        holds = documents is not None and not one_document
        cut = None
        if in_chunks and not covers(mask) and not torch.compiler.is_compiling():
            cut = mask.chunks(modalities, documents if holds else None, reads)
        if cut is not None:
            chunks, visible = cut
            return Rows(slots, modalities, positions, visible, hold_documents=holds, chunks=chunks)
        visible = visibility(mask, modalities, documents)
        found = mask.found(modalities, visible)
        return Rows(slots, modalities, positions, visible[:, None], hold_documents=holds, found=found)

    rows, *others = map(rows_by, masks)
    return rows._replace(others=tuple(others))


def document_starts(modality_ids: Tensor, document_ids: Tensor) -> Tensor:
    """Where documents start, bool [B, S]: the first one where its row does, each other one at its first real token.

    A document starts where the id of a real token differs from that of the real token before it.
    """
    before = token_before(modality_ids)
    changes = document_ids != document_ids.gather(1, before.clamp(min=0))
    starts = (modality_ids >= 0) & (before >= 0) & changes
    starts[:, 0] = True
    return starts


def document_positions(modality_ids: Tensor, document_ids: Tensor) -> Tensor:
    """Positions int64 [B, S]: from 0 where a document starts."""
    index = torch.arange(document_ids.shape[1], device=document_ids.device)
    starts = document_starts(modality_ids, document_ids)
    return index - (index * starts).cummax(dim=1).values
