"""Seconds of runs that take turns, and what a list of numbers says."""

from __future__ import annotations

import contextlib
import gc
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch

Run = Callable[[], object]

Stopwatch = Callable[[Run], float]
"""Runs something and says how many seconds it took."""


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


def stopwatch(device: str, clock: Callable[[], float] = perf_counter) -> Stopwatch:
    """On CUDA from one event on the current stream to another; elsewhere by the clock."""
    if device.startswith("cuda"):
        return _cuda_seconds

    def seconds(run: Run) -> float:
        start = clock()
        run()
        return clock() - start

    return seconds


def _cuda_seconds(run: Run) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000  # of milliseconds


def interleave(sides: Mapping[str, Timed], rounds: int, seconds_of: Stopwatch) -> dict[str, list[float]]:
    """Each side's seconds in each of its rounds, which are the first ones.

    Two sides swap places from round to round, so that each follows the other as often as it leads. What else there is
    comes after them, in a third of the rounds: it is slow, and so far off that less tells.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    with no_collection():
        for number in range(rounds):
            pair = names[:2] if number % 2 == 0 else names[1::-1]
            for name in pair + (names[2:] if 3 * number < rounds else []):
                sides[name].prepare()
                seconds[name].append(seconds_of(sides[name].run))
    return seconds


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Python collects its garbage before, and not meanwhile: it would be charged to whoever happens to run."""
    if not gc.isenabled():
        yield
        return
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def pairwise(seconds: Sequence[float], base: Sequence[float]) -> tuple[float, ...]:
    """Round by round, how many times the base, in the rounds that both had."""
    return tuple(mine / other for mine, other in zip(seconds, base, strict=False))


def spread(values: Sequence[float]) -> Spread:
    """Median, 10th and 90th percentile, between the given numbers by straight lines."""
    if len(values) == 1:
        return Spread(median=values[0], low=values[0], high=values[0])
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return Spread(median=statistics.median(values), low=tenths[0], high=tenths[-1])
