"""Whether modalities pull shared parameters the same way: cosines between their gradients.

Where two modalities' gradients of a parameter point the same way, one copy serves both; where they point apart, each
undoes what the other learns (Yu et al., Gradient Surgery for Multi-Task Learning, arXiv 2001.06782), and only there can
a copy of its own help.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, islice
from pathlib import Path

import torch
from torch import Tensor

from motc.files import write_whole
from motc.match.batches import PreparedBatch, held_out_batches
from motc.match.data import Data
from motc.match.race import System

SAMPLES = 64  # held-out ones, whose gradients are added up

Cosines = Mapping[str, Mapping[str, float]]
"""By parameter, then by pair of modalities, as `text image`; without those of which one has no gradient there."""


def gradient_cosines(system: System, batches: Iterable[PreparedBatch]) -> Cosines:
    """The cosine between the gradients that each two modalities' losses, summed over all targets, have in a parameter.

    The system goes on as if nothing had been asked.
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


class Gradients:
    """Writes the cosines of a system into a file at each evaluation of its race, by step."""

    def __init__(self, path: Path, data: Data, batch: int) -> None:
        self.path, self.data, self.batch = path, data, batch
        self.by_step: dict[str, Cosines] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def __call__(self, seed: int, step: int, systems: Sequence[System], *, evaluated: bool) -> None:
        """Of the first system, on the first held-out samples."""
        if evaluated:
            base, *_ = systems
            batches = held_out_batches(self.data, {base.name: base.network.layout}, batch=self.batch)
            self.by_step[str(step)] = gradient_cosines(base, islice(batches, max(1, SAMPLES // self.batch)))
            write_whole(self.path, json.dumps(self.by_step, indent=1) + "\n")
