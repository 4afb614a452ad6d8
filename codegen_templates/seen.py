"""Targets that the token before them sees: to predict them is nothing to learn from."""

import torch
from torch import Tensor

from .constants import constant
from .rows import document_starts


def neighbours(modality_ids: Tensor, pairs: tuple[tuple[bool, ...], ...]) -> Tensor:
    """Whether each place's modality and that of the place before it are such a pair, bool [B, S].

    pairs[i][j]: whether j after i is one. The first place has none before it; padding means nothing here.
    """
    table = constant(pairs, modality_ids.device)
    return torch.nn.functional.pad(table[modality_ids[:, :-1], modality_ids[:, 1:]], (1, 0))


def in_prefix(modality_ids: Tensor, document_ids: Tensor | None, prefix: tuple[int, ...]) -> Tensor:
    """Whether no real token of another modality stands before a place or at it in its document, bool [B, S].

    Padding means nothing here.
    """
    others = ((modality_ids >= 0) & ~torch.isin(modality_ids, constant(prefix, modality_ids.device))).long()
    until = others.cumsum(1)
    if document_ids is None:
        return until == 0
    starts = document_starts(modality_ids, document_ids)
    return until == torch.where(starts, until - others, 0).cummax(1).values  # those of the documents before
