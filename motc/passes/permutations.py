"""Permutations between the stream's order and others: where they are put, and which cancel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from motc.ir.steps import SPANS, Order, Permute, Step, Steps, Value, entering


def place(steps: Steps, stream: Order, gives: Order) -> Steps:
    """Every value in the stream's order: what a step in another one reads is brought into it before the step, and what
    it writes is brought back after it. The last permutation is to the order that the steps give.
    """
    return tuple(_placed(steps, stream, gives))


def _placed(steps: Steps, stream: Order, gives: Order) -> Iterator[Step]:
    numbers = {step.writes.name: step.numbers for step in reversed(steps)} | {SPANS.name: 1}
    for step in steps:
        order = step.order or stream
        if order != stream:
            for value in dict.fromkeys(step.reads):
                size = numbers.get(value.name, steps[-1].numbers)
                yield _permutation(value, stream, order, step.sublayer, size)
        reads = tuple(value.ordered(order) for value in step.reads)
        yield replace(step, reads=reads, writes=step.writes.ordered(stream if step.is_sum else order))
        if order != stream and not step.is_sum:
            yield _permutation(step.writes, order, stream, step.sublayer, step.numbers)
    result = steps[-1]
    if gives != stream:
        yield _permutation(result.writes, stream, gives, result.sublayer, result.numbers)


def cancel(steps: Steps) -> Steps:
    """Without those permutations that undo another, repeat one, or make what nothing reads; the others say for whom.

    A permutation that makes a value in an order in which there is one has been undone or repeated. Of which spans
    tokens are is brought into order in each sublayer anew: sublayers hand on what becomes of the stream alone.
    """
    values = {(value, "") for value in entering(steps)}
    kept = []
    for step in steps:
        made = (step.writes, step.sublayer if _is_of_spans(step) else "")
        if made not in values and (step.writes, "") not in values:
            kept.append(step)
            values.add(made)
    return _live(kept, steps[-1].writes)


def _is_of_spans(step: Step) -> bool:
    return step.permutes and step.writes.name == SPANS.name


def _live(steps: list[Step], result: Value) -> Steps:
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
    if _is_of_spans(permutation):
        readers = [step for step in readers if step.sublayer == permutation.sublayer]
    if not readers:
        sublayer = steps[-1].sublayer
        return replace(permutation, forced_by=("the next layer" if sublayer else "what follows",), sublayer=sublayer)
    return replace(permutation, forced_by=tuple(step.name for step in readers), sublayer=readers[0].sublayer)


def _permutation(value: Value, source: Order, to: Order, sublayer: str, numbers: int) -> Step:
    """The step that brings a value from one order into another."""
    reads, writes = (value.ordered(source),), value.ordered(to)
    return Step(sublayer=sublayer, operation=Permute(to), reads=reads, writes=writes, numbers=numbers)
