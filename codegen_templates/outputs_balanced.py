"""What the loss of a model returns whose experts are kept in balance."""

from typing import NamedTuple

from torch import Tensor

from codegen_templates.outputs import means


class LossOutput(NamedTuple):
    """`total`, the mean over all counted targets and `balance`; `by_modality`, the mean over each one's (0 if none).

    `balance` is the load-balancing loss of the experts: the mean over layers, times its weight. `weights` are what each
    of `by_modality` is divided by: the sum of its targets' weights, their number where none are given; of latents, how
    many numbers they have. `weight` is what the cross-entropy in `total` is divided by.
    """

    total: Tensor
    by_modality: dict[str, Tensor]
    balance: Tensor
    weight: Tensor
    weights: dict[str, Tensor]


def mean_losses(sums: Tensor, totals: Tensor, modalities: tuple[str, ...], balance: Tensor) -> LossOutput:
    """Sums of weighted losses [M] and of weights [M] to means, and the balance, which the total has too."""
    total, by_modality, weight, weights = means(sums, totals, modalities)
    return LossOutput(total + balance, by_modality, balance, weight, weights)
