"""Mixtures of experts token by token and expert by expert, as their papers define them, with no care for speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    choice: ReferenceChoice = field(default_factory=lambda: ReferenceChoice())


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceChoice:
    """How a token chooses its experts, and what these weigh.

    `corrected`: the router's `correction`, a number for each expert, is added to the score that is compared. Of
    `groups` of experts only the best `top_groups` are chosen from, by the sum of their best two, or by their best.
    """

    scores: Literal["softmax", "sigmoid"] = "softmax"
    normalised: bool = True
    scale: float = 1.0
    corrected: bool = False
    groups: int = 1
    top_groups: int = 1
    group_score: Literal["best_two", "best"] = "best_two"


@dataclass(slots=True)
class Trace:
    """What routing leaves behind: each load-balancing loss, weighted, and how many decisions were taken by a hair."""

    balance: list[Tensor] = field(default_factory=list)
    hairs: int = 0


def mixture(
    moe: ReferenceMoe,
    routers: Sequence[tuple[str, Tensor]],
    parameters: Parameters,
    places: Tensor,
    apply: Callable[[int, Tensor], Tensor],
    trace: Trace,
) -> Tensor:
    """Tokens [n, w] after the experts; `apply` sends one token [w] through the expert of that number.

    `routers` are prefixes of routers, each with its tokens [n_i, w], all of which are `n`, one after the other.
    `places` int64 [n] say where each token stands in the batch, rows first.
    """
    x = torch.cat([tokens for _, tokens in routers])
    scores = torch.cat([scored(moe.choice, router, parameters, tokens) for router, tokens in routers])
    match moe.routing:
        case "expert_choice":
            pairs = expert_choice(moe, scores, places.tolist(), trace)
        case "top_k":
            corrections = torch.zeros_like(scores)
            if moe.choice.corrected:
                rows = [parameters[f"{router}.correction"].expand(len(tokens), -1) for router, tokens in routers]
                corrections = torch.cat(rows)
            pairs = top_k(moe, scores, corrections, trace)
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


def scored(choice: ReferenceChoice, router: str, parameters: Parameters, x: Tensor) -> Tensor:
    """Each token's scores of experts [n, E], in at least float32; for sigmoids and corrections its logits are too."""
    match choice.scores:
        case "softmax" if not choice.corrected:
            return torch.softmax(at_least_float32(linear(parameters, router, x)), dim=-1)
        case "softmax":
            return torch.softmax(wide_logits(router, parameters, x), dim=-1)
        case "sigmoid":
            return torch.sigmoid(wide_logits(router, parameters, x))
        case _:
            assert_never(choice.scores)


def wide_logits(router: str, parameters: Parameters, x: Tensor) -> Tensor:
    """A router's logits, their product in at least float32."""
    logits = at_least_float32(x) @ at_least_float32(parameters[f"{router}.weight"]).T
    return logits + at_least_float32(parameters[f"{router}.bias"]) if f"{router}.bias" in parameters else logits


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


def top_k(moe: ReferenceMoe, scores: Tensor, corrections: Tensor, trace: Trace) -> list[tuple[int, int, Tensor]]:
    """Pairs of a token and an expert with their weight: each token goes to its best experts.

    Of experts that are equal in float32 it goes to the one with the lower number.
    """
    tokens, chosen, choice = scores.shape[0], int(moe.per_token), moe.choice
    pairs = []
    for token in range(tokens):
        correction = corrections[token]
        allowed, is_close = chosen_from(choice, scores[token], correction)
        worth = (scores[token] + correction).float().tolist()
        best = sorted(allowed, key=lambda expert: (-worth[expert], expert))[:chosen]
        total = sum(scores[token, expert] for expert in best) if choice.normalised else 1.0
        if choice != ReferenceChoice() and choice.normalised:
            total = total + 1e-20  # of scores that are all 0
        pairs += [(token, expert, scores[token, expert] / total * choice.scale) for expert in best]
        trace.hairs += is_close or is_by_a_hair(scores[token, allowed], chosen, correction[allowed])
    if tokens and moe.balance:
        probabilities = scores
        if choice.scores == "sigmoid":
            probabilities = scores / (scores.sum(-1, keepdim=True) + 1e-20)
        trace.balance.append(moe.balance * imbalance(moe, probabilities, [expert for _, expert, _ in pairs]))
    return pairs


def chosen_from(choice: ReferenceChoice, scores: Tensor, correction: Tensor) -> tuple[list[int], bool]:
    """The experts of the best groups, for a token's scores [E], and whether rounding could make others the best."""
    if choice.groups == 1:
        return list(range(len(scores))), False
    size, best = len(scores) // choice.groups, 2 if choice.group_score == "best_two" else 1
    groups = [list(range(group * size, (group + 1) * size)) for group in range(choice.groups)]

    def worth(change: float) -> Tensor:
        """What each group is worth if scores were larger by a share of them."""
        numbers = (scores.detach() * (1 + change) + correction).float()
        return torch.stack([numbers[group].sort(descending=True).values[:best].sum() for group in groups])

    worths = worth(0.0).tolist()
    taken = sorted(range(choice.groups), key=lambda group: (-worths[group], group))[: choice.top_groups]
    is_close = is_between(worth(-HAIR), worth(HAIR), worth(0.0), choice.top_groups)
    return [expert for group in sorted(taken) for expert in groups[group]], is_close


def is_by_a_hair(scores: Tensor, taken: int, correction: Tensor | float = 0.0) -> bool:
    """Whether rounding could turn the decision for so many of the best, of scores [n] compared in float32."""
    least, most = ((scores * (1 + change) + correction).float() for change in (-HAIR, HAIR))
    return is_between(least, most, (scores + correction).float(), taken)


def is_between(least: Tensor, most: Tensor, numbers: Tensor, taken: int) -> bool:
    """Whether a number, each between its `least` and its `most`, could pass from the best `taken` to the rest."""
    if not 0 < taken < len(numbers):
        return False
    ranked = numbers.sort(descending=True).values
    return bool(((least != most) & (least <= ranked[taken - 1]) & (most >= ranked[taken])).any())


def imbalance(moe: ReferenceMoe, probabilities: Tensor, chosen: list[int]) -> Tensor:
    """Experts times the sum of their shares of choices times mean probabilities (Fedus et al., 2021, equation 4)."""
    terms = [chosen.count(expert) / len(chosen) * probabilities[:, expert].mean() for expert in range(moe.experts)]
    return moe.experts * torch.stack(terms).sum()
