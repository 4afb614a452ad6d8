"""A tree of fewer layers than its statements speak of."""

from __future__ import annotations

from dataclasses import replace

from motc.schema.mistake import Mistake
from motc.schema.values import layer_range
from motc.syntax.tree import Entry, Mapping, Node, Scalar, Sequence

STATEMENTS = ("untie", "by_layer")


def first_layers(tree: Mapping, count: int) -> Mapping:
    """What is said of some layers, said of the first `count`; a statement about later ones alone is left out."""
    entries: list[Entry] = []
    for entry in tree.entries:
        if entry.key in STATEMENTS and isinstance(entry.value, Sequence):
            statements = tuple(cut for each in entry.value.items if (cut := _cut(each, count)) is not None)
            if not statements and entry.value.items:
                continue
            entry = replace(entry, value=replace(entry.value, items=statements))
        entries.append(entry)
    return replace(tree, entries=tuple(entries))


def _cut(statement: Node, count: int) -> Node | None:
    layers = statement.get("layers") if isinstance(statement, Mapping) else None
    if not isinstance(statement, Mapping) or not isinstance(layers, Scalar):
        return statement
    try:
        said = layer_range(layers.value)
    except Mistake:  # which is told where the tree is typed
        return statement
    if said.last < count:
        return statement
    if said.first >= count:
        return None
    fewer = replace(layers, value=str(said._replace(last=count - 1)))
    entries = tuple(replace(each, value=fewer) if each.key == "layers" else each for each in statement.entries)
    return replace(statement, entries=entries)
