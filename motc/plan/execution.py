"""How a model's strategy runs it, in what it needs of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from motc.ir.execution import Execution
from motc.ir.model import Model
from motc.plan.module_plan import LayerPlan, LeafPlan


def planned_execution(model: Model, layers: Iterable[LayerPlan], outer: Collection[LeafPlan]) -> Execution:
    """The strategy's execution: without sorting if nothing needs it, and not to be told of if there are no towers."""
    within = [leaf for layer in layers for sublayer in layer.sublayers for leaf in sublayer.leaves.values()]
    sorts = model.execution.sorts and (
        any(step.order == "sorted" for layer, _ in model.kinds for step in layer.steps)
        or any(leaf.form == "by_tower" for leaf in outer)
        or (bool(model.continuous_modalities()) and model.vocab is not None)
    )
    has_towers = any(leaf.form in ("by_tower", "held") for leaf in (*within, *outer))
    told = model.execution.told if sorts or has_towers else ""
    return replace(model.execution, sorts=sorts, told=told)
