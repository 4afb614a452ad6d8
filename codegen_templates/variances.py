"""Variances of denoising steps that a model predicts, and what they cost in training."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, assert_never

import torch
from torch import Tensor
from torch.nn import functional as F

from .latents import beside

BIN = 1.0 / 255.0
"""Half of what a number of the data is told apart by, as for pixels from -1 to 1."""


class Bound(NamedTuple):
    """The variational bound, number by number and in bits, of latents [n, ...] noised to steps [n] (2102.09672).

    What is predicted of a variance is where its logarithm lies between that of the least, -1, and of the most, 1.
    """

    signal: Tensor  # float64 [1000]: the signal's share of the variance at each step
    prediction: Literal["noise", "velocity", "sample"]
    clean: Tensor
    noised: Tensor
    timesteps: Tensor

    def cost(self, predicted: Tensor, variance: Tensor) -> Tensor:
        """How many bits [n, ...] the step to less noise is off, from what is predicted of latents and of variances.

        It teaches variances alone: what is predicted of latents comes without gradient.
        """
        before = F.pad(self.signal[:-1], (1, 0), value=1.0)
        added = 1 - self.signal / before
        least = added * (1 - before) / (1 - self.signal)  # of what is known to be clean, this is how sure one can be
        least[0] = least[1]
        share = added * before.sqrt() / (1 - self.signal)
        rest = (1 - before) * (1 - added).sqrt() / (1 - self.signal)
        tables = (added.log(), least.log(), share, rest, self.signal)
        most, least, share, rest, signal = (
            beside(table.to(predicted, non_blocking=True)[self.timesteps], predicted) for table in tables
        )
        clean, noised = self.clean.to(predicted), self.noised.to(predicted)
        of_step = least + (variance + 1) / 2 * (most - least)
        sample = self._sample(predicted, noised, signal)
        off = share * (sample - clean)
        apart = 0.5 * (of_step - least - 1 + (least - of_step).exp() + off.square() * (-of_step).exp())
        mean = share * sample + rest * noised
        first = beside(self.timesteps == 0, predicted)
        return torch.where(first, -_log_likelihood(clean, mean, of_step), apart) / math.log(2)

    def _sample(self, predicted: Tensor, noised: Tensor, signal: Tensor) -> Tensor:
        """The clean latents that follow from what is predicted."""
        match self.prediction:
            case "noise":
                return (noised - (1 - signal).sqrt() * predicted) / signal.sqrt()
            case "velocity":
                return signal.sqrt() * noised - (1 - signal).sqrt() * predicted
            case "sample":
                return predicted
            case _:
                assert_never(self.prediction)


def _log_likelihood(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """How likely numbers are, each with all that is as near to it as to none other, of a Gaussian."""
    narrow = (-0.5 * log_variance).exp()
    above, below = (_up_to((x - mean + side) * narrow) for side in (BIN, -BIN))
    inside = torch.where(x < -0.999, above, torch.where(x > 0.999, 1 - below, above - below))
    return inside.clamp(min=1e-12).log()


def _up_to(x: Tensor) -> Tensor:
    """The share of a Gaussian of variance 1 below x, nearly, as those who trained such models have it."""
    return 0.5 * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x.pow(3))).tanh())
