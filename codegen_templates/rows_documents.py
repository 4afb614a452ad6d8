"""Attention's rows: a document each."""

import torch
from torch import Tensor

from .masks import Mask
from .rows import Rows, document_starts, fill_rows
from .rows_compact import compact_rows
from .sizes import exporting


def document_rows(modality_ids: Tensor, document_ids: Tensor | None) -> tuple[Tensor, bool]:
    """The token of the flattened batch in each slot, int64 [R, L], and whether each row is one document, unpadded.

    So it is, unless documents of very different lengths would make such rows larger than the batch's own: then the rows
    are those, with their padding. Reads sizes back from the device.
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


def rows_by_document(modality_ids: Tensor, document_ids: Tensor | None, masks: tuple[Mask, ...]) -> Rows:
    """The rows of `document_rows` with all that attention needs; a batch of padding alone has one token that is none's.

    That stand-in keeps tensors from being empty. In an exported program, which can ask for no value, they are the
    batch's rows with padding at their ends.
    """
    present = with_a_token(modality_ids)
    plain: tuple[str, ...]
    if exporting():
        plain = ("causal",) if document_ids is None else ()
        return fill_rows(compact_rows(present), present, document_ids, masks, plain)
    slots, apart = document_rows(present, document_ids)
    plain = ("causal",) if apart else ()
    if apart and any(mask.kernel == "full" for mask in masks) and not bool((slots < 0).any()):
        plain = ("causal", "full")
    return fill_rows(slots, present, document_ids, masks, plain, one_document=apart, reads=True)


def with_a_token(modality_ids: Tensor) -> Tensor:
    """The modality ids [B, S]; where all is padding, a stand-in of modality 0 at the first place."""
    has_token = (modality_ids >= 0).any()
    if not exporting() and bool(has_token):
        return modality_ids
    stand_in = modality_ids.clone()
    stand_in[0, 0] = torch.where(has_token, modality_ids[0, 0], 0)
    return stand_in
