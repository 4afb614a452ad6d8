"""What a model returns, and the next-token loss."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from codegen_templates.modality_layout import ModalityLayout


class ModelOutput(NamedTuple):
    """`logits` [B, S, V], or a dict modality -> [B, S, V_m] with own vocabularies; zeros at padding."""

    logits: Tensor | dict[str, Tensor]


class LossOutput(NamedTuple):
    """`total`, the mean over all counted targets, and `by_modality`, the mean over the targets of each (0 if none)."""

    total: Tensor
    by_modality: dict[str, Tensor]


def counted_targets(layout: ModalityLayout, modality: int) -> tuple[Tensor, Tensor]:
    """For each target of a modality: the stream's row that predicts it, and its place in the flattened sequence.

    A target counts if it and the token before it are real and in one document.
    """
    ids = layout.modality_ids
    counts = (ids[:, 1:] == modality) & (ids[:, :-1] >= 0)
    if layout.document_ids is not None:
        counts = counts & (layout.document_ids[:, 1:] == layout.document_ids[:, :-1])
    row, column = counts.nonzero(as_tuple=True)
    before = row * ids.shape[1] + column
    return layout.inverse[before], before + 1


def summed_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits [n, V], summed, in float32 or wider; 0 for n = 0."""
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets, reduction="sum")


def mean_losses(sums: dict[str, Tensor], counts: dict[str, int]) -> LossOutput:
    """Sums of losses and numbers of targets to means."""
    by_modality = {name: loss / max(counts[name], 1) for name, loss in sums.items()}
    return LossOutput(torch.stack(list(sums.values())).sum() / max(sum(counts.values()), 1), by_modality)
