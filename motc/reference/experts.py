"""Mixtures of experts token by token and expert by expert, as their papers define them, with no care for speed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, assert_never

import torch
from torch import Tensor

from motc.reference.operators import Parameters, at_least_float32, linear

HAIR = 1e-12
"""A relative change of a probability that may come of rounding in float64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceMoe:
    """How a mixture of experts routes: to the `per_token` best, or so many a token on average by experts' choice."""

    experts: int
    routing: Literal["top_k", "expert_choice"]
    per_token: Fraction
    balance: float
    shared: int = 0


@dataclass(slots=True)
class Trace:
    """What routing leaves behind: each load-balancing loss, weighted, and how many decisions were taken by a hair."""

    balance: list[Tensor] = field(default_factory=list)
    hairs: int = 0


def mixture(
    moe: ReferenceMoe,
    router: str,
    parameters: Parameters,
    x: Tensor,
    places: Tensor,
    apply: Callable[[int, Tensor], Tensor],
    trace: Trace,
) -> Tensor:
    """The tokens x [n, w] after the experts; `apply` sends one token [w] through the expert of that number.

    `places` int64 [n] say where each token stands in the batch, rows first.
    """
    probabilities = torch.softmax(at_least_float32(linear(parameters, router, x)), dim=-1)
    match moe.routing:
        case "expert_choice":
            pairs = expert_choice(moe, probabilities, places.tolist(), trace)
        case "top_k":
            pairs = top_k(moe, probabilities, trace)
        case _:
            assert_never(moe.routing)
    rows = []
    for token in range(x.shape[0]):
        row = torch.zeros_like(x[token])
        for owner, expert, weight in pairs:
            if owner == token:
                row = row + weight.to(x.dtype) * apply(expert, x[token])
        rows.append(row)
    return torch.stack(rows) if rows else x * 0


def expert_choice(
    moe: ReferenceMoe, probabilities: Tensor, places: list[int], trace: Trace
) -> list[tuple[int, int, Tensor]]:
    """Pairs of a token and an expert with their weight: every expert takes its best tokens (Zhou et al., 2022).

    Of tokens that are equal in float32 it takes the one that comes first in the batch.
    """
    tokens = probabilities.shape[0]
    capacity = -(-tokens * moe.per_token // moe.experts)
    pairs = []
    for expert in range(moe.experts):
        scores = probabilities[:, expert].float().tolist()
        best = sorted(range(tokens), key=lambda token: (-scores[token], places[token]))
        pairs += [(token, expert, probabilities[token, expert]) for token in best[:capacity]]
        trace.hairs += is_by_a_hair(probabilities[:, expert], capacity)
    return pairs


def top_k(moe: ReferenceMoe, probabilities: Tensor, trace: Trace) -> list[tuple[int, int, Tensor]]:
    """Pairs of a token and an expert with their weight: each token goes to its best experts, weights adding up to 1.

    Of experts that are equal in float32 it goes to the one with the lower number.
    """
    tokens, chosen = probabilities.shape[0], int(moe.per_token)
    pairs = []
    for token in range(tokens):
        scores = probabilities[token].float().tolist()
        best = sorted(range(moe.experts), key=lambda expert: (-scores[expert], expert))
        total = sum(probabilities[token, expert] for expert in best[:chosen])
        pairs += [(token, expert, probabilities[token, expert] / total) for expert in best[:chosen]]
        trace.hairs += is_by_a_hair(probabilities[token], chosen)
    if tokens and moe.balance:
        trace.balance.append(moe.balance * imbalance(moe, probabilities, [expert for _, expert, _ in pairs]))
    return pairs


def is_by_a_hair(probabilities: Tensor, taken: int) -> bool:
    """Whether rounding could turn the decision for so many of the best, of probabilities [n] compared in float32."""
    if not 0 < taken < len(probabilities):
        return False
    ranked = probabilities.float().sort(descending=True).values
    least, most = ((probabilities * (1 + change)).float() for change in (-HAIR, HAIR))
    return bool(((least != most) & (least <= ranked[taken - 1]) & (most >= ranked[taken])).any())


def imbalance(moe: ReferenceMoe, probabilities: Tensor, chosen: list[int]) -> Tensor:
    """Experts times the sum of their shares of choices times mean probabilities (Fedus et al., 2021, equation 4)."""
    terms = [chosen.count(expert) / len(chosen) * probabilities[:, expert].mean() for expert in range(moe.experts)]
    return moe.experts * torch.stack(terms).sum()
