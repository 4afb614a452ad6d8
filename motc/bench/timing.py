"""Seconds of runs that take turns, and what a list of numbers says."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

Run = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The middle of some numbers, and between what the middle eight tenths lie."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """`run` is timed; `prepare` comes before it and is not."""

    prepare: Run
    run: Run


def interleave(
    sides: Mapping[str, Timed], rounds: int, clock: Callable[[], float] = perf_counter
) -> dict[str, list[float]]:
    """Each side's seconds in each of its rounds, which are the first ones.

    Two sides swap places from round to round, so that each follows the other as often as it leads. What else there is
    comes after them, in a third of the rounds: it is slow, and so far off that less tells.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # a collection would be charged to whoever happens to run
    try:
        for number in range(rounds):
            pair = names[:2] if number % 2 == 0 else names[1::-1]
            for name in pair + (names[2:] if 3 * number < rounds else []):
                sides[name].prepare()
                start = clock()
                sides[name].run()
                seconds[name].append(clock() - start)
    finally:
        if collecting:
            gc.enable()
    return seconds


def pairwise(seconds: Sequence[float], base: Sequence[float]) -> tuple[float, ...]:
    """Round by round, how many times the base, in the rounds that both had."""
    return tuple(mine / other for mine, other in zip(seconds, base, strict=False))


def spread(values: Sequence[float]) -> Spread:
    """Median, 10th and 90th percentile, between the given numbers by straight lines."""
    if len(values) == 1:
        return Spread(median=values[0], low=values[0], high=values[0])
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return Spread(median=statistics.median(values), low=tenths[0], high=tenths[-1])
