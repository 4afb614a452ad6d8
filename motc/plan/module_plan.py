"""The module plan: every class, attribute and order of the generated file, decided before a line of it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from motc.ir.model import Layer, Leaf, Model

Form = Literal["single", "shared", "by_tower"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafPlan:
    """How one group appears: its attribute, and how the pieces it is applied to meet its blocks.

    `single`: one module, one piece. `shared`: one module, several pieces. `by_tower`: piece i goes to `route[i]`.
    """

    attribute: str
    leaf: Leaf
    form: Form
    route: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlan:
    """One kind of layer: its class names, the layers of that kind, and its groups by path."""

    attention_class: str
    ffn_class: str
    layer_class: str
    where: str
    layer: Layer
    leaves: dict[str, LeafPlan]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModulePlan:
    """A whole generated file. `kinds[i]` is the kind of the i-th segment's layers."""

    model: Model
    class_name: str
    semantic_hash: str
    parts: tuple[tuple[int, ...], ...]  # ids of the modalities in each part of the stream
    layer_plans: tuple[LayerPlan, ...]
    runs: tuple[tuple[int, int], ...]  # (index into layer_plans, number of layers)
    embedding: LeafPlan
    final_norm: LeafPlan | None
    head: LeafPlan | None
    templates: tuple[str, ...]

    @property
    def many(self) -> bool:
        """Whether the stream has more than one part."""
        return len(self.parts) > 1
