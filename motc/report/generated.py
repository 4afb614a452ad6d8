"""Where a generated model makes its parameter groups: the class, the attribute, and the line."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import NamedTuple

from motc.ir.layer import Layer
from motc.ir.model import Model
from motc.plan import plan


class Made(NamedTuple):
    """An attribute of a generated class, and the line of `model.py` that assigns it."""

    owner: str
    attribute: str
    line: int


class MadeBy:
    """Finds where a model's groups are made in the text of its `model.py`."""

    def __init__(self, model: Model, text: str) -> None:
        planned = plan(model)
        self.lines = _assignments(text)
        self.outer = planned.class_name
        self.owners: dict[tuple[int, str], tuple[str, str]] = {}
        for (layer, _), of_layer in zip(model.kinds, planned.layer_plans, strict=True):
            for part in of_layer.sublayers:
                for path, leaf in part.leaves.items():
                    self.owners[id(layer), path] = (part.class_name, leaf.attribute)

    def find(self, path: str, layer: Layer | None) -> Made | None:
        """Where the group of a kind of layer is made, or one outside the layers."""
        owner, attribute = (self.outer, path) if layer is None else self.owners.get((id(layer), path), ("", ""))
        line = self.lines.get((owner, attribute))
        return None if line is None else Made(owner, attribute, line)


def _assignments(text: str) -> Mapping[tuple[str, str], int]:
    """By class and attribute the line that assigns it."""
    lines: dict[tuple[str, str], int] = {}
    for owner in ast.parse(text).body:
        if isinstance(owner, ast.ClassDef):
            for node in ast.walk(owner):
                for target in node.targets if isinstance(node, ast.Assign) else ():
                    name = ast.unparse(target)
                    if name.startswith("self."):
                        lines.setdefault((owner.name, name.removeprefix("self.")), target.lineno)
    return lines
