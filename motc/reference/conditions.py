"""Adaptive norms: what a span's condition is made of, and what it does to tokens, as the papers say it.

DiT (arXiv 2212.09748), adaLN: what a norm gives is scaled and shifted, and what a sublayer makes is gated, by linear
maps of the silu of a vector, which is the sum of a timestep's and a class label's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from motc.reference.latents import waves_of_periods
from motc.reference.operators import FfnKind, Parameters, activated, linear


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSinusoids:
    """So many cosines and sines of a number: of periods from one to another in equal ratios, or of frequencies."""

    count: int
    max_period: float
    scale: float
    closed: bool
    periods: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceCondition:
    """What the condition of a modality's spans is the sum of; `prefix` is that of its parameters.

    `activation` is that between the maps of a given vector, None where there is no such vector.
    """

    prefix: str
    width: int
    timestep: ReferenceSinusoids | None
    number: ReferenceSinusoids | None
    label: bool
    activation: FfnKind | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceModulation:
    """Where maps of the condition of the modality `by` are found, that change what is done to tokens.

    `table` is where numbers are found that are added to what the maps give, if there are such. Maps are of the vector's
    silu if it is `activated`; what is not `mapped` is that itself.
    `gate` is what is done to what the map of gates gives: nothing, or its tanh.
    """

    by: str
    prefix: str
    parts: tuple[Literal["scale", "shift", "gate"], ...]
    gate: Literal["linear", "tanh"]
    table: str | None = None
    activated: bool = True
    mapped: bool = True


Conditions = Mapping[str, Mapping[str, Tensor]]
"""By modality, and by the one whose condition its tokens have: a vector for each of them, [n_m, width]."""


def condition_vectors(
    condition: ReferenceCondition, parameters: Parameters, timesteps: Tensor, given: Mapping[str, Tensor]
) -> Tensor:
    """The vectors [n, width] of spans."""
    like, prefix = next(iter(parameters.values())), condition.prefix
    total = like.new_zeros(len(timesteps), condition.width)
    for name, waves, numbers in (
        ("timestep", condition.timestep, timesteps),
        ("number", condition.number, given.get("number", timesteps)),
    ):
        if waves is not None:
            vectors = [sinusoids(waves, number).to(like) for number in numbers.tolist()]
            inner = torch.stack(vectors) if vectors else like.new_zeros(0, waves.count)
            hidden = F.silu(linear(parameters, f"{prefix}.{name}.hidden", inner))
            total = total + linear(parameters, f"{prefix}.{name}.out", hidden)
    if condition.label:
        table = parameters[f"{prefix}.label.weight"]
        labels = given.get("label", torch.full((len(timesteps),), len(table) - 1))
        total = total + table[labels]
    if condition.activation is not None and len(timesteps):
        up = linear(parameters, f"{prefix}.vector.hidden", given["vector"])
        total = total + linear(parameters, f"{prefix}.vector.out", activated(condition.activation, up, lambda: up))
    return total


def sinusoids(waves: ReferenceSinusoids, number: float) -> Tensor:
    """Cosines and sines of a number, or where there are periods sines and cosines, [count], in float32."""
    if waves.periods is not None:
        return waves_of_periods(waves.count, waves.periods, number)
    half, x = waves.count // 2, waves.scale * torch.tensor(number, dtype=torch.float32)
    exponents = -math.log(waves.max_period) * torch.arange(half, dtype=torch.float32)
    angles = x * torch.exp(exponents / (half - 1 if waves.closed else half))
    return torch.cat((angles.cos(), angles.sin()))


def spans_of(modality_ids: Tensor, document_ids: Tensor | None, index: int) -> list[list[int]]:
    """Of each token [B][S] which of a modality's spans is its: its own, or the first of its document; -1 for none."""
    rows, length = modality_ids.shape
    spans, first, count = [[-1] * length for _ in range(rows)], dict[tuple[int, int], int](), 0
    for row in range(rows):
        before: tuple[int, int] | None = None
        for column in range(length):
            modality = int(modality_ids[row, column])
            if modality < 0:
                continue
            document = 0 if document_ids is None else int(document_ids[row, column])
            if modality == index:
                count += before != (modality, document)
                spans[row][column] = count - 1
                first.setdefault((row, document), count - 1)
            before = (modality, document)
    for row in range(rows):
        for column in range(length):
            document = 0 if document_ids is None else int(document_ids[row, column])
            if int(modality_ids[row, column]) not in (-1, index):
                spans[row][column] = first.get((row, document), -1)
    return spans


def part_of(
    modulation: ReferenceModulation | None,
    parameters: Parameters,
    conditions: Conditions,
    modality: str,
    part: Literal["scale", "shift", "gate"],
) -> Tensor | None:
    """What tokens of a modality are scaled, shifted or gated by, [n_m, width]; None where they are not."""
    if modulation is None or part not in modulation.parts:
        return None
    vector = conditions[modality][modulation.by]
    made = F.silu(vector) if modulation.activated else vector
    made = linear(parameters, f"{modulation.prefix}.{part}", made) if modulation.mapped else made
    made = made if modulation.table is None else made + parameters[f"{modulation.table}.{part}"]
    return made.tanh() if part == "gate" and modulation.gate == "tanh" else made
