"""What a model returns."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class ModelOutput(NamedTuple):
    """`logits` [B, S, V], or a dict modality -> [B, S, V_m] with own vocabularies; zeros at padding."""

    logits: Tensor | dict[str, Tensor]


class LossOutput(NamedTuple):
    """`total`, the mean over all counted targets, and `by_modality`, the mean over the targets of each (0 if none)."""

    total: Tensor
    by_modality: dict[str, Tensor]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy [n] of logits [n, V] in float32 or wider; 0 where the target int64 [n] is -1."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(wide, targets, ignore_index=-1, reduction="none")


def mean_losses(sums: Tensor, counts: Tensor, modalities: tuple[str, ...]) -> LossOutput:
    """Sums of losses [M] and numbers of targets [M] to means."""
    by_modality = dict(zip(modalities, (sums / counts.clamp(min=1)).unbind(), strict=True))
    return LossOutput(sums.sum() / counts.sum().clamp(min=1), by_modality)
