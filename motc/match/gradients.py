"""Whether modalities pull shared parameters the same way: cosines between their gradients.

Where two modalities' gradients of a parameter point the same way, one copy serves both; where they point apart, each
undoes what the other learns (Yu et al., Gradient Surgery for Multi-Task Learning, arXiv 2001.06782), and only there can
a copy of its own help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations, islice

import torch
from torch import Tensor

from motc.match.batches import PreparedBatch, held_out_batches
from motc.match.data import Data
from motc.match.pairs import Pairs
from motc.match.race import System

SAMPLES = 64  # held-out ones, whose gradients are added up


def gradient_cosines(system: System, batches: Iterable[PreparedBatch]) -> Pairs:
    """The cosine between the gradients that each two modalities' losses, summed over all targets, have in a parameter.

    Pairs of which one has no gradient in a parameter are left out. The system goes on as if nothing had been asked.
    """
    parameters = dict(system.network.named_parameters())
    sums: dict[str, dict[str, Tensor]] = {name: {} for name in system.modalities}
    for number, batch in enumerate(batches):
        for modality, mine in sums.items():  # each with a forward of its own: a compiled backward may run but once
            losses = system.losses_of(batch, f"held-out batch {number}")
            total = losses.by_modality[modality] * losses.weights[modality]
            gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    mine[name] = mine.get(name, 0) + gradient.double().flatten()
    cosines: dict[str, dict[str, float]] = {}
    for name in parameters:
        for one, other in combinations(sums, 2):
            if name in sums[one] and name in sums[other]:
                a, b = sums[one][name], sums[other][name]
                norms = float(a.norm() * b.norm())
                if norms > 0:
                    cosines.setdefault(name, {})[f"{one} {other}"] = float(a @ b) / norms
    return cosines


def held_out_cosines(data: Data, batch: int) -> Callable[[System], Pairs]:
    """What measures them on the first held-out samples."""

    def measure(system: System) -> Pairs:
        batches = held_out_batches(data, {system.name: system.network.layout}, batch=batch)
        return gradient_cosines(system, islice(batches, max(1, SAMPLES // batch)))

    return measure
