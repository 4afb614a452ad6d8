"""Where a batch's tokens lie, for a model that keeps them in attention's order."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from codegen_templates.checks import check_modalities
from codegen_templates.permute import permute
from codegen_templates.rows import (
    Rows,
    batch_rows,
    compact_rows,
    fill_rows,
    invert,
    places_of,
    real_tokens,
    rows_by_document,
)
from codegen_templates.sizes import mark_sizes, moved


class ModalityLayout(NamedTuple):
    """Where a batch's tokens lie in attention's rows of slots. -1 stands for none."""

    modality_ids: Tensor  # int64 [B, S], -1 at padding
    document_ids: Tensor | None  # int64 [B, S], or None: each row is one document
    rows: Rows
    places: Tensor  # int64 [R, L]: as `rows.modality_ids`, their number where there is no token
    tokens: Tensor  # int64 [R, L]: which token of the flattened batch stands in each slot
    batch: Tensor | None  # int64 [B, S]: the slot of each token of the batch; None: the slots are the batch
    key: str  # of the model that made it: equal where masks, orders of modalities and strategies are

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ModalityLayout:
        """The layout on another device, as for a batch that a data loader made."""
        return ModalityLayout(*moved(tuple(self), device, non_blocking))

    def mark_sizes(self) -> None:
        """Tell the compiler which sizes vary."""
        self.rows.mark_sizes()
        mark_sizes(self.places, "rows", "length")
        mark_sizes(self.tokens, "rows", "length")
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
) -> ModalityLayout:
    """The layout of rows; `identical` if their slots are known to be the batch."""
    tokens = real_tokens(rows.slots, modality_ids)
    batch = None if identical else invert(tokens.flatten(), modality_ids.numel()).view_as(modality_ids)
    return ModalityLayout(
        modality_ids=modality_ids.clone(),  # the caller may write into the batch's own
        document_ids=None if document_ids is None else document_ids.clone(),
        rows=rows,
        places=places_of(rows.modality_ids, modalities),
        tokens=tokens,
        batch=batch,
        key=key,
    )


def document_layout(
    modality_ids: Tensor,
    document_ids: Tensor | None,
    modalities: tuple[int, ...],
    mask: dict[str, Any],
    key: str = "",
) -> ModalityLayout:
    """A row for each document, without its padding. Raises TypeError or ValueError for ids as `check_modalities` does.

    Reads sizes back from the device.
    """
    check_modalities(modality_ids, document_ids, len(modalities), reads=True)
    rows = rows_by_document(modality_ids, document_ids, mask)
    identical = document_ids is None and bool((modality_ids >= 0).all())
    return place_slots(rows, modality_ids, document_ids, modalities, key, identical)


def compact_layout(
    modality_ids: Tensor,
    document_ids: Tensor | None,
    modalities: tuple[int, ...],
    mask: dict[str, Any],
    key: str = "",
) -> ModalityLayout:
    """The batch's rows with padding at their ends; on a GPU reads nothing back.

    Raises TypeError or ValueError for ids as `check_modalities` does.
    """
    check_modalities(modality_ids, document_ids, len(modalities), reads=False)
    plain = document_ids is None and mask == {"kind": "causal"}
    rows = fill_rows(compact_rows(modality_ids), modality_ids, document_ids, mask, plain)
    return place_slots(rows, modality_ids, document_ids, modalities, key)


def batch_layout(
    modality_ids: Tensor,
    document_ids: Tensor | None,
    modalities: tuple[int, ...],
    mask: dict[str, Any],
    key: str = "",
) -> ModalityLayout:
    """The batch's rows as they are. Raises TypeError or ValueError for ids as `check_modalities` does."""
    check_modalities(modality_ids, document_ids, len(modalities), reads=True)
    whole = document_ids is None and bool((modality_ids >= 0).all())
    plain = whole and mask in ({"kind": "causal"}, {"kind": "full"})
    rows = fill_rows(batch_rows(modality_ids), modality_ids, document_ids, mask, plain)
    return place_slots(rows, modality_ids, document_ids, modalities, key)


def to_batch(x: Tensor, layout: ModalityLayout) -> Tensor:
    """What stands in the slots [R, L, ...] as the batch [B, S, ...] it came from, zeros at padding."""
    if layout.batch is None:
        return x
    batch, sequence = layout.batch.shape
    rows = permute(x.flatten(0, 1), layout.batch.flatten(), layout.tokens.flatten())
    return rows.view(batch, sequence, *x.shape[2:])
