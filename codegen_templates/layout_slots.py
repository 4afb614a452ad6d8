"""Where a batch's tokens lie, for a model that keeps them in attention's order."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .rows import Rows
from .sizes import mark_sizes, moved
from .tokens import invert, places_of, real_tokens


class SlotLayout(NamedTuple):
    """Where a batch's tokens lie in attention's rows of slots. -1 stands for none."""

    modality_ids: Tensor  # int64 [B, S], -1 at padding
    document_ids: Tensor | None  # int64 [B, S], or None: each row is one document
    rows: Rows
    places: Tensor | int  # int64 [R, L]: of `rows.modality_ids`, in the order they are sorted in; or one of all
    tokens: Tensor  # int64 [R, L]: which token of the flattened batch stands in each slot
    batch: Tensor | None  # int64 [B, S]: the slot of each token of the batch; None: the slots are the batch
    key: str  # of the model that made it: equal where masks, orders of modalities and strategies are

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SlotLayout:
        """The layout on another device, as for a batch that a data loader made."""
        return SlotLayout(*moved(tuple(self), device, non_blocking))

    def of_one(self, place: int, modality_ids: Tensor) -> SlotLayout:
        """A layout of other tokens [B, S], all with the parameters of the modality at a place."""
        rows = self.rows._replace(modality_ids=modality_ids)
        return self._replace(modality_ids=modality_ids, rows=rows, places=place)

    def mark_sizes(self) -> None:
        """Tell the compiler which sizes vary."""
        self.rows.mark_sizes()
        for y in (self.places, self.tokens):
            if isinstance(y, Tensor):
                mark_sizes(y, "rows", "length")
        for x in (self.modality_ids, self.document_ids, self.batch):
            if x is not None:
                mark_sizes(x, "batch", "sequence")


def place_slots(
    rows: Rows,
    modality_ids: Tensor,
    document_ids: Tensor | None,
    modalities: tuple[int, ...],
    key: str,
    identical: bool = False,
) -> SlotLayout:
    """The layout of rows; `identical` if their slots are known to be the batch."""
    tokens = real_tokens(rows.slots, modality_ids)
    batch = None if identical else invert(tokens.flatten(), modality_ids.numel()).view_as(modality_ids)
    return SlotLayout(
        modality_ids=modality_ids.clone(),  # the caller may write into the batch's own
        document_ids=None if document_ids is None else document_ids.clone(),
        rows=rows,
        places=places_of(rows.modality_ids, modalities),
        tokens=tokens,
        batch=batch,
        key=key,
    )
