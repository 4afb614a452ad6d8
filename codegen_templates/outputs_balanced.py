"""What the loss of a model returns whose experts are kept in balance."""

from typing import NamedTuple

from torch import Tensor

from codegen_templates.outputs import divided


class LossOutput(NamedTuple):
    """`total`, the mean over all counted targets and `balance`; `by_modality`, the mean over each one's (0 if none).

    `balance` is the load-balancing loss of the experts: the mean over layers, times its weight. `weight` is the sum of
    the targets' weights that the mean is divided by: how many they are, if no weights are given.
    """

    total: Tensor
    by_modality: dict[str, Tensor]
    balance: Tensor
    weight: Tensor


def mean_losses(sums: Tensor, totals: Tensor, modalities: tuple[str, ...], balance: Tensor) -> LossOutput:
    """Sums of weighted losses [M] and of weights [M] to means."""
    by_modality = dict(zip(modalities, divided(sums, totals).unbind(), strict=True))
    weight = totals.sum()
    return LossOutput(divided(sums.sum(), weight) + balance, by_modality, balance, weight)
