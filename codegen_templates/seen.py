"""Targets that the token before them sees: to predict them is nothing to learn from."""

import torch
from torch import Tensor

from codegen_templates.constants import constant


def neighbours(modality_ids: Tensor, pairs: tuple[tuple[bool, ...], ...]) -> Tensor:
    """Whether each place's modality and that of the place before it are such a pair, bool [B, S].

    pairs[i][j]: whether j after i is one. The first place has none before it; padding means nothing here.
    """
    table = constant(pairs, modality_ids.device)
    return torch.nn.functional.pad(table[modality_ids[:, :-1], modality_ids[:, 1:]], (1, 0))


def in_prefix(modality_ids: Tensor, document_ids: Tensor | None, prefix: tuple[int, ...]) -> Tensor:
    """Whether no real token of another modality stands before a place or at it in its document, bool [B, S]."""
    others = ((modality_ids >= 0) & ~torch.isin(modality_ids, constant(prefix, modality_ids.device))).long()
    if document_ids is None:
        return others.cumsum(1) == 0
    documents, order = torch.sort(document_ids, dim=1, stable=True)  # the places of each document in one run
    others = others.gather(1, order)
    until = others.cumsum(1)
    starts = torch.ones_like(documents, dtype=torch.bool)
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    before = torch.where(starts, until - others, 0).cummax(1).values  # how many the documents before it have
    return torch.zeros_like(starts).scatter(1, order, until == before)
