"""A few cases that have every pair of values of two axes, for tests of a product too large to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

Case = dict[str, str]
Pair = tuple[tuple[str, str], tuple[str, str]]


def pairwise(axes: Mapping[str, tuple[str, ...]], allowed: Callable[[Case], bool]) -> list[Case]:
    """Cases, one value of each axis, in which every two values of two axes meet; the same ones at each call.

    `allowed` may refuse a case in part, that has values of some axes only, and must refuse what goes on from it. A pair
    that is in no allowed case is left out.
    """
    wanted: dict[Pair, None] = {}
    for a, b in combinations(axes, 2):
        wanted |= {((a, x), (b, y)): None for x in axes[a] for y in axes[b] if allowed({a: x, b: y})}
    cases = []
    while wanted:
        (first, second) = next(iter(wanted))
        case = _completed(dict((first, second)), axes, wanted, allowed)
        if case is None:
            del wanted[first, second]
            continue
        cases.append(case)
        for pair in _pairs(case, axes):
            wanted.pop(pair, None)
    return cases


def _pairs(case: Case, axes: Mapping[str, tuple[str, ...]]) -> list[Pair]:
    return [((a, case[a]), (b, case[b])) for a, b in combinations([axis for axis in axes if axis in case], 2)]


def _completed(
    case: Case, axes: Mapping[str, tuple[str, ...]], wanted: Mapping[Pair, None], allowed: Callable[[Case], bool]
) -> Case | None:
    """The case with a value of every axis, each the one that meets most wanted pairs; None where none is allowed."""
    axis = next((axis for axis in axes if axis not in case), None)
    if axis is None:
        return {axis: case[axis] for axis in axes}
    candidates = []
    for value in axes[axis]:
        longer = {**case, axis: value}
        if allowed(longer):
            new = sum(pair in wanted for pair in _pairs(longer, axes) if (axis, value) in pair)
            candidates.append((new, longer))
    for _, longer in sorted(candidates, key=lambda pair: -pair[0]):
        if (whole := _completed(longer, axes, wanted, allowed)) is not None:
            return whole
    return None


def assert_every_pair_is_there(
    cases: list[Case], axes: Mapping[str, tuple[str, ...]], allowed: Callable[[Case], bool]
) -> None:
    """That every two values of two axes that are allowed together are in a case."""
    covered = {pair for case in cases for pair in combinations(case.items(), 2)}
    for (a, left), (b, right) in combinations(axes.items(), 2):
        for x in left:
            for y in right:
                assert ((a, x), (b, y)) in covered or not allowed({a: x, b: y})
