"""What a model refuses of labels and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .checked_layout import no_token
from .checks import check_tensor, refuse


def only_with_labels(labels: Tensor | None, **given: Any) -> None:
    """Raise ValueError for what only the loss reads, where there are no labels."""
    if labels is None and any(value is not None for value in given.values()):
        *others, last = given
        raise ValueError(f"{', '.join(others)} and {last} go with labels" if others else f"{last} go with labels")


def check_targets(
    model: Any, labels: Tensor, weights: Tensor | None, input_ids: Tensor, modality_ids: Tensor, reads: bool
) -> None:
    """Raise TypeError or ValueError for labels and weights that do not fit the batch.

    A label is a token of its modality's vocabulary, or -100; a weight is finite and not negative. Where there is no
    token they may be anything. `reads`: whether values may be read from any device; on a CPU they always are.
    """
    if torch.compiler.is_compiling():
        return
    faults = []
    if labels is not input_ids:  # which are checked already
        check_tensor("labels", labels, modality_ids)
        tokens = labels.masked_fill(labels == -100, 0)
        faults.append(no_token("labels", tokens, modality_ids, model.modalities, model.vocabularies))
    if weights is not None:
        if not isinstance(weights, Tensor):
            raise TypeError(f"weights must be a tensor, floating-point [B, S], not {type(weights).__name__}")
        if weights.shape != modality_ids.shape or not weights.is_floating_point():
            asked, given = [*modality_ids.shape], f"{weights.dtype} {[*weights.shape]}"
            raise ValueError(f"weights must be floating-point [B, S] as modality_ids, {asked}, not {given}")
        if weights.device != modality_ids.device:
            raise ValueError(f"weights must be on {modality_ids.device} as modality_ids, not on {weights.device}")
        faults.append(no_weight(weights, modality_ids, model.modalities, model.vocabularies))
    refuse(faults, reads)


def no_weight(
    weights: Tensor, modality_ids: Tensor, modalities: tuple[str, ...], vocabularies: Mapping[str, int]
) -> tuple[Tensor, Callable[[int, int], str]]:
    """Where a token's weight is none, and what to say."""
    of_each = [modality_ids == modalities.index(name) for name in vocabularies]
    tokens = torch.stack(of_each or [torch.zeros_like(modality_ids, dtype=torch.bool)]).any(dim=0)

    def said(row: int, column: int) -> str:
        given = f"{weights[row, column].item()} in row {row}, column {column}"
        return f"weights must be finite and not negative, not {given}"

    return tokens & ~(weights.isfinite() & (weights >= 0)), said
