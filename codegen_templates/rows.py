"""The rows of slots that attention works on."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from codegen_templates.constants import constant
from codegen_templates.sizes import mark_sizes
from codegen_templates.visibility import token_before, visibility


class Rows(NamedTuple):
    """Attention's rows of slots; -1 stands for none."""

    slots: Tensor  # int64 [R, L]: which token of the flattened batch stands in each slot
    modality_ids: Tensor  # int64 [R, L]: its modality
    positions: Tensor  # int64 [R, L]: from 0 in each document
    mask: Tensor | None  # bool [R, 1, L, L]: who sees whom; None: all of the row, or all that came before

    def mark_sizes(self) -> None:
        """Tell the compiler which sizes vary."""
        for x in (self.slots, self.modality_ids, self.positions):
            mark_sizes(x, "rows", "length")
        if self.mask is not None:
            mark_sizes(self.mask, "rows", "one", "length", "length")


def look_up(values: Tensor, index: Tensor, missing: int) -> Tensor:
    """values[index] for int64 values [n], and `missing` where the index is -1."""
    return torch.where(index >= 0, values[index.clamp(min=0)], missing)


def places_of(modality_ids: Tensor, modalities: tuple[int, ...]) -> Tensor:
    """The place of each modality in the order they are sorted in; their number where there is none."""
    order = tuple(modalities.index(modality) for modality in range(len(modalities)))
    places = constant(order, modality_ids.device)
    return look_up(places, modality_ids, len(modalities))


def invert(order: Tensor, size: int) -> Tensor:
    """The inverse int64 [size] of an order int64 [n] that repeats nothing but -1; -1 where nothing leads."""
    inverse = order.new_full((size + 1,), -1)
    inverse[order] = torch.arange(order.numel(), device=order.device)  # index -1 is the last entry, cut off below
    return inverse[:size]


def document_rows(modality_ids: Tensor, document_ids: Tensor | None) -> tuple[Tensor, bool]:
    """Slots with a row for each document, without padding, and that it is so.

    Such rows need no mask but the plain one. Where documents of very different lengths would make them cost more than
    they save, the rows are the batch's own, and the answer is False. Reads sizes back from the device.
    """
    batch, sequence = modality_ids.shape
    tokens = torch.arange(batch * sequence, device=modality_ids.device)
    real = modality_ids.flatten() >= 0
    if document_ids is None and bool(real.all()):
        return tokens.view(batch, sequence), True
    document = tokens // sequence
    if document_ids is not None:
        document = document_starts(modality_ids, document_ids).flatten().cumsum(0)
    _, row, lengths = torch.unique_consecutive(document[real], return_inverse=True, return_counts=True)
    rows, longest = lengths.numel(), int(lengths.max())
    if rows * longest**2 > batch * sequence**2:
        return torch.where(real, tokens, -1).view(batch, sequence), False
    column = torch.arange(row.numel(), device=row.device) - (lengths.cumsum(0) - lengths)[row]
    slots = tokens.new_full((rows, longest), -1)
    slots[row, column] = tokens[real]
    return slots, True


def rows_by_document(modality_ids: Tensor, document_ids: Tensor | None, mask: dict[str, Any]) -> Rows:
    """The rows of `document_rows`, filled; where all is padding, with a stand-in, so that no tensor is empty."""
    present = with_a_token(modality_ids)
    slots, apart = document_rows(present, document_ids)
    return fill_rows(slots, present, document_ids, mask, apart and is_plain(mask, slots))


def real_tokens(tokens: Tensor, modality_ids: Tensor) -> Tensor:
    """Tokens of the flattened batch, -1 where one is a stand-in for padding."""
    return torch.where(look_up(modality_ids.flatten(), tokens, -1) >= 0, tokens, -1)


def compact_rows(modality_ids: Tensor) -> Tensor:
    """Slots [B, S] with padding moved to each row's end; reads nothing back from the device."""
    batch, sequence = modality_ids.shape
    first = torch.arange(batch, device=modality_ids.device)[:, None] * sequence
    order = torch.argsort((modality_ids < 0).to(torch.uint8), dim=1, stable=True)
    return torch.where(modality_ids.gather(1, order) >= 0, order + first, -1)


def batch_rows(modality_ids: Tensor) -> Tensor:
    """Slots [B, S]: the batch as it is."""
    tokens = torch.arange(modality_ids.numel(), device=modality_ids.device).view_as(modality_ids)
    return torch.where(modality_ids >= 0, tokens, -1)


def fill_rows(
    slots: Tensor, modality_ids: Tensor, document_ids: Tensor | None, mask: dict[str, Any], plain: bool
) -> Rows:
    """What stands in the slots; `plain` if the mask's kind alone says who sees whom in a row."""
    modalities = look_up(modality_ids.flatten(), slots, -1)
    if document_ids is None:
        positions = slots.clamp(min=0) % modality_ids.shape[1]
    else:
        positions = look_up(document_positions(modality_ids, document_ids).flatten(), slots, 0)
    if plain:
        return Rows(slots, modalities, positions, None)
    documents = None if document_ids is None else look_up(document_ids.flatten(), slots, -1)
    return Rows(slots, modalities, positions, visibility(modalities, documents, **mask)[:, None])


def document_starts(modality_ids: Tensor, document_ids: Tensor) -> Tensor:
    """Where each row's documents start, bool [B, S]: the first with the row, others at their first real token.

    Ids are only compared, and those of padding count for nothing.
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


def is_plain(mask: dict[str, Any], slots: Tensor) -> bool:
    """Whether the mask's kind alone says who sees whom in rows that are one document each, their tokens first."""
    return mask == {"kind": "causal"} or (mask == {"kind": "full"} and not bool((slots < 0).any()))


def with_a_token(modality_ids: Tensor) -> Tensor:
    """The modality ids, with a stand-in where all is padding, so that no tensor is empty."""
    if bool((modality_ids >= 0).any()):
        return modality_ids
    stand_in = modality_ids.clone()
    stand_in[0, 0] = 0
    return stand_in
