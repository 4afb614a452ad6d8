"""Decide in which order every step works, and how the residual stream is kept.

    before   attention.norm = attention.norm(x)                 either
             attention.q = attention.q(attention.norm)          needs sorted
    after    attention.norm = attention.norm(x)                 sorted
             attention.q = attention.q(attention.norm)          sorted
             residual sorted

A step that could work in any takes the order of those that read what it writes, or the residual stream's if they
disagree; a head that works on every token has them as in the batch. The residual stream is kept in the order that has
fewer numbers permuted, over all layers.
"""

from __future__ import annotations

from dataclasses import replace

from motc.ir.model import Model
from motc.ir.steps import Order, Step, Steps, StreamOrder, Value
from motc.passes.permutations import cancel, place

ORDERS: tuple[StreamOrder, ...] = ("slots", "sorted")


def assign_orders(model: Model) -> Model:
    """The same model with the `order` of every step, and `residual`."""
    widths = {modality.width for modality in model.modalities}
    if not model.execution.sorts:
        residual: StreamOrder = "slots"
    elif len(widths) > 1:
        residual = "sorted"  # no one tensor holds vectors of several widths: the stream stays apart
    else:
        residual = min(ORDERS, key=lambda order: _permuted(model, order))
    return replace(
        model.with_steps(lambda steps, gives: _assigned(steps, residual, gives or residual)), residual=residual
    )


def _permuted(model: Model, residual: StreamOrder) -> int:
    """How many numbers a token has permuted in all layers."""
    total = 0
    for layer, count in model.kinds:
        steps = cancel(place(_assigned(layer.steps, residual, residual), residual, residual))
        total += sum(step.numbers for step in steps if step.permutes) * count
    return total


def _assigned(steps: Steps, residual: StreamOrder, gives: Order) -> Steps:
    readers: dict[Value, set[Order]] = {steps[-1].writes: {gives}}
    assigned: list[Step] = []
    for step in reversed(steps):
        wanted = readers.get(step.writes, set())
        order = step.needs or (wanted.pop() if len(wanted) == 1 else residual)
        for value in step.reads:
            readers.setdefault(value, set()).add(order)
        assigned.append(replace(step, order=order))
    return tuple(reversed(assigned))
