"""How many of the base's steps another system needs (Liang et al., arXiv 2411.04996, section 3.2: step matching)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """For each of the base's steps, the first step at which the other has its loss; both count from 1."""

    base_steps: tuple[int, ...]
    other_steps: tuple[int, ...]
    unmatched: int  # of the base's steps: the other never has their loss

    @property
    def ratio(self) -> float | None:
        """The slope of the line through the origin that fits the pairs best; None without pairs."""
        squares = sum(step * step for step in self.base_steps)
        if not squares:
            return None
        products = zip(self.base_steps, self.other_steps, strict=True)
        return sum(base * other for base, other in products) / squares


def smooth(losses: Sequence[float], window: int) -> list[float]:
    """The mean of each loss and those before it, `window` in all; NaN, where a batch had no target, is left out.

    The first `window - 1` are NaN: a shorter mean would be an earlier one's.
    """
    means = [math.nan] * min(window - 1, len(losses))
    for end in range(window, len(losses) + 1):
        real = [loss for loss in losses[end - window : end] if not math.isnan(loss)]
        means.append(sum(real) / len(real) if real else math.nan)
    return means


def match(steps: Sequence[int], base: Sequence[float], other: Sequence[float]) -> Match:
    """For each loss of the base, the step at which the other reaches it. Both have their losses at the same `steps`.

    Between two steps a curve is a straight line. It starts at the first step that has a loss, so nothing is matched
    before.
    """
    points = [
        (step, mine, theirs)
        for step, mine, theirs in zip(steps, base, other, strict=True)
        if not (math.isnan(mine) or math.isnan(theirs))
    ]
    pairs: list[tuple[int, int]] = []
    unmatched = 0
    for step, wanted, _ in points:
        before: tuple[int, float] | None = None
        for reached, _, loss in points:
            if loss <= wanted:
                pairs.append((step, _between(before, (reached, loss), wanted)))
                break
            before = (reached, loss)
        else:
            unmatched += 1
    return Match(
        base_steps=tuple(mine for mine, _ in pairs),
        other_steps=tuple(theirs for _, theirs in pairs),
        unmatched=unmatched,
    )


def _between(before: tuple[int, float] | None, after: tuple[int, float], wanted: float) -> int:
    """The first whole step at which the line between two points is at most the loss wanted."""
    if before is None or before[1] <= after[1]:
        return after[0]
    share = (before[1] - wanted) / (before[1] - after[1])
    return min(after[0], math.ceil(before[0] + share * (after[0] - before[0])))
