"""Permutations between attention's slots and the sorted order: where they are put, and which cancel."""

from __future__ import annotations

from dataclasses import replace

from motc.ir.steps import Order, Permute, Step, Value


def place(steps: tuple[Step, ...], residual: Order) -> tuple[Step, ...]:
    """Every value in slots: what a step in sorted order reads is sorted before it, what it writes unsorted after it."""
    (entry, *_), result = steps[0].reads, steps[-1]
    placed: list[Step] = []
    if residual == "sorted":
        placed.append(_permutation(entry, "slots", steps[0].sublayer, _numbers_of(entry, steps)))
    for step in steps:
        if step.order != "sorted":
            placed.append(step)
            continue
        for value in dict.fromkeys(step.reads):
            placed.append(_permutation(value, "sorted", step.sublayer, _numbers_of(value, steps)))
        reads = tuple(value.ordered("sorted") for value in step.reads)
        placed.append(replace(step, reads=reads, writes=step.writes.ordered("sorted")))
        placed.append(_permutation(step.writes, "slots", step.sublayer, step.numbers))
    if residual == "sorted":
        placed.append(_permutation(result.writes, "sorted", result.sublayer, result.numbers))
    return tuple(placed)


def cancel(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Without those permutations that undo another, repeat one, or make what nothing reads; the others say for whom.

    A permutation that makes a value in an order in which there is one has been undone or repeated.
    """
    values = {steps[0].reads[0]}
    kept = []
    for step in steps:
        if step.writes not in values:
            kept.append(step)
            values.add(step.writes)
    return _live(kept, steps[-1].writes)


def _live(steps: list[Step], result: Value) -> tuple[Step, ...]:
    """The steps whose values are read, in order."""
    wanted = {result}
    live: list[Step] = []
    for step in reversed(steps):
        if step.writes in wanted:
            wanted.update(step.reads)
            live.append(step)
    live.reverse()
    return tuple(_for_readers(step, live) if step.permutes else step for step in live)


def _for_readers(permutation: Step, steps: list[Step]) -> Step:
    """A permutation with those that read it, in the sublayer of the first of them."""
    readers = [step for step in steps if permutation.writes in step.reads]
    if not readers:
        sublayer = steps[-1].sublayer
        return replace(permutation, forced_by=("the next layer" if sublayer else "what follows",), sublayer=sublayer)
    return replace(permutation, forced_by=tuple(step.name for step in readers), sublayer=readers[0].sublayer)


def _permutation(value: Value, to: Order, sublayer: str, numbers: int) -> Step:
    """The step that brings a value from the other order."""
    source = value.ordered("slots" if to == "sorted" else "sorted")
    return Step(sublayer=sublayer, operation=Permute(to), reads=(source,), writes=value.ordered(to), numbers=numbers)


def _numbers_of(value: Value, steps: tuple[Step, ...]) -> int:
    return next((step.numbers for step in steps if step.writes == value), steps[-1].numbers)
