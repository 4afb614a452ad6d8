"""Permutations between attention's slots and the sorted order: where they are put, and which cancel."""

from __future__ import annotations

from dataclasses import replace

from motc.ir.steps import Order, Step, sorted_name


def place(steps: tuple[Step, ...], residual: Order) -> tuple[Step, ...]:
    """Every value in slots: what a step in sorted order reads is sorted before it, what it writes unsorted after it."""
    placed: list[Step] = []
    if residual == "sorted":
        placed.append(_permutation("unsort", sorted_name("x"), "x", _numbers_of("x", steps)))
    for step in steps:
        if step.order != "sorted":
            placed.append(step)
            continue
        for value in dict.fromkeys(step.reads):
            placed.append(_permutation("sort", value, sorted_name(value), _numbers_of(value, steps)))
        reads = tuple(sorted_name(value) for value in step.reads)
        placed.append(replace(step, reads=reads, writes=sorted_name(step.writes)))
        placed.append(_permutation("unsort", sorted_name(step.writes), step.writes, step.numbers))
    if residual == "sorted":
        last = steps[-1]
        placed.append(_permutation("sort", last.writes, sorted_name(last.writes), last.numbers))
    return tuple(placed)


def cancel(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Without those permutations that undo another, repeat one, or make what nothing reads; the others say for whom.

    A value's name says which it is, so a permutation that makes what was there before has been undone or repeated.
    """
    values = {steps[0].reads[0]}
    kept = []
    for step in steps:
        if step.writes not in values:
            kept.append(step)
            values.add(step.writes)
    return _live(kept, steps[-1].writes)


def _live(steps: list[Step], result: str) -> tuple[Step, ...]:
    """The steps whose values are read, in order, each permutation with those that read it."""
    wanted = {result}
    live: list[Step] = []
    for step in reversed(steps):
        if step.writes in wanted:
            wanted.update(step.reads)
            live.append(step)
    live.reverse()
    return tuple(
        replace(step, forced_by=tuple(other.op for other in live if step.writes in other.reads) or ("the next layer",))
        if step.permutes
        else step
        for step in live
    )


def _permutation(op: str, value: str, writes: str, numbers: int) -> Step:
    return Step(op=op, reads=(value,), writes=writes, numbers=numbers)


def _numbers_of(value: str, steps: tuple[Step, ...]) -> int:
    return next((step.numbers for step in steps if step.writes == value), steps[-1].numbers)
