"""How two kinds of layers of one model differ, in the words of a diff."""

from __future__ import annotations

from motc.diff.attributes import attribute_edits
from motc.diff.facts import layer_stretch
from motc.diff.partitions import partition_edits, repartition
from motc.ir.layer import Layer
from motc.ir.model import Model


def differences(model: Model, one: Layer, other: Layer) -> tuple[str, ...]:
    """What turns a layer into another of the same model: `ffn.kind: swiglu → moe`, `attention.window: 1024 → none`."""
    start, goal = (layer_stretch(model, layer, 1, {}) for layer in (one, other))
    edits = partition_edits(start, goal, None) + attribute_edits(repartition(start, goal), goal, None)
    return tuple(edit.change for edit in edits)
