"""What a model returns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .targets import Targets


class ModelOutput(NamedTuple):
    """`logits` [B, S, V], or a dict modality -> [B, S, V_m] with own vocabularies; zeros at padding."""

    logits: Tensor | dict[str, Tensor]


class LossOutput(NamedTuple):
    """`total`, the mean over all counted targets, and `by_modality`, the mean over the targets of each (0 if none).

    `weights` are what each of `by_modality` is divided by: the sum of its targets' weights, their number where none are
    given; of latents, how many numbers they have. `weight` is what the cross-entropy in `total` is divided by.
    `balance`, which `total` holds too, is the load-balancing loss of experts: the mean over layers, times its weight;
    None where routers are not kept in balance.
    """

    total: Tensor
    by_modality: dict[str, Tensor]
    weight: Tensor
    weights: dict[str, Tensor]
    balance: Tensor | None = None


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """The cross-entropy [n] of logits [n, V] in float32 or wider, times its weight; 0 where the target is -1."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # Torch 2.11 asks, and cannot tell where logits are joined from pieces.
    torch._check(wide.shape[0] == targets.shape[0])  # type: ignore[no-untyped-call]
    losses = F.cross_entropy(wide, targets, ignore_index=-1, reduction="none")
    return losses if weights is None else losses * weights.to(losses.dtype)


def divided(sums: Tensor, totals: Tensor) -> Tensor:
    """Sums by the weights that went into them; 0 where that is 0."""
    return sums / torch.where(totals > 0, totals, 1)


def weighted_sum(values: Tensor, weights: tuple[float, ...]) -> Tensor:
    """The sum of values [M], each times its weight."""
    return torch.stack([weight * value for weight, value in zip(weights, values.unbind(), strict=True)]).sum()


def sums_by_modality(logits: Tensor, wanted: Targets, count: int) -> Tensor:
    """The sums [M] of the losses of targets of each modality, by the logits [..., V] of every place of the stream."""
    weights = None if wanted.weights is None else wanted.weights.flatten()
    losses = cross_entropy(logits.flatten(0, -2), wanted.ids.flatten(), weights)
    modality = torch.arange(count, device=losses.device)[:, None]
    return torch.where(modality == wanted.modality_ids.flatten(), losses, 0.0).sum(1)


def mean_losses(sums: Tensor, totals: Tensor, modalities: tuple[str, ...], balance: Tensor | None = None) -> LossOutput:
    """Sums of weighted losses [M] and of weights [M] to means."""
    weights = dict(zip(modalities, totals.unbind(), strict=True))
    # Each by itself: views of one tensor would be no outputs to hang FSDP's hooks on, and it warns of them.
    by_modality = {name: divided(each, weights[name]) for name, each in zip(modalities, sums.unbind(), strict=True)}
    weight = totals.sum()
    total = divided(sums.sum(), weight)
    return LossOutput(total if balance is None else total + balance, by_modality, weight, weights, balance)


def weigh_modalities(means: LossOutput, sums: Tensor, totals: Tensor, weights: tuple[float, ...]) -> LossOutput:
    """The means, each modality's targets counting in the total as much as its weight says."""
    weight = weighted_sum(totals, weights)
    total = divided(weighted_sum(sums, weights), weight)
    return means._replace(total=total if means.balance is None else total + means.balance, weight=weight)
