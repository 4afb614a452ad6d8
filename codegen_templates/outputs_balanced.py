"""What the loss of a model returns whose experts are kept in balance."""

from typing import NamedTuple

from torch import Tensor


class LossOutput(NamedTuple):
    """`total`, the mean over all counted targets and `balance`; `by_modality`, the mean over each one's (0 if none).

    `balance` is the load-balancing loss of the experts: the mean over layers, times its weight.
    """

    total: Tensor
    by_modality: dict[str, Tensor]
    balance: Tensor


def mean_losses(sums: Tensor, counts: Tensor, modalities: tuple[str, ...], balance: Tensor) -> LossOutput:
    """Sums of losses [M] and numbers of targets [M] to means."""
    by_modality = dict(zip(modalities, (sums / counts.clamp(min=1)).unbind(), strict=True))
    return LossOutput(sums.sum() / counts.sum().clamp(min=1) + balance, by_modality, balance)
