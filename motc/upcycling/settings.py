"""What a model computes otherwise than the sources of its parameters do: no name and no shape tells it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from motc.diff.attributes import IN_LAYERS, OUTSIDE
from motc.diff.facts import Facts, LayerFacts, layer_stretch, outer_stretch
from motc.ir.inventory import SECTIONS
from motc.ir.model import Model
from motc.source import Diagnostic
from motc.upcycling.groups import Groups
from motc.upcycling.plan import InitPlan

ROPE = tuple(f"attention.rope.{key}" for key in ("theta", "pairing", "fraction", "scaling", "axes"))
"""But sections: tokens that are one after the other have one position on all axes, and turn as without them."""

OF_ATTENTION = ("scale", "softcap", "window", "qk_norm", "qk_norm_eps", "qk_norm.place")
OF_NORMS = ("norm.kind", "norm.eps", "norm.offset")
OF_SECTION = {
    "attention": (*(f"attention.{key}" for key in OF_ATTENTION), *ROPE),
    "ffn": ("ffn.kind",),
    "norm": (*OF_NORMS, "norm.placement", "parallel"),
}
OF_PATH = {"embedding": ("embedding.scale", "first_position"), "head": ("head.scale", "head.softcap")}
"""What decides how a group's parameters are used, by the language's keys."""

Where = tuple[int | None, str]


def other_settings(plan: InitPlan, target: Groups, sources: Mapping[str, Groups]) -> list[Diagnostic]:
    """A warning for each setting that a modality has otherwise than the one whose parameters it begins as."""
    ours, theirs = _facts(target.model), {name: _facts(groups.model) for name, groups in sources.items()}
    told: dict[str, None] = {}
    for start in plan.starts:
        if start.statement.verb not in ("copy", "noise"):
            continue
        copy, counterpart = target.copy_of(start.parameter), sources[start.source].copy_of(start.tensor)
        given = theirs[start.source][counterpart.layer, counterpart.modalities[0]]
        for name in copy.modalities:
            for key, own, other in _differences(copy.path, ours[copy.layer, name], given):
                told[f"{name} has {key} = {own}, and {start.source}, whose {copy.path} it gets, {other}"] = None
    return [Diagnostic(code="MOT113", message=text, span=None, severity="warning") for text in told]


def _facts(model: Model) -> dict[Where, Facts]:
    """What each modality has in each layer, and outside."""
    by_layer: dict[Where, Facts] = {}
    for segment in model.segments:
        attributes = layer_stretch(model, segment.layer, 1, {}).attributes
        for layer in range(segment.first, segment.last + 1):
            by_layer |= {(layer, name): facts for name, facts in attributes.items()}
    return by_layer | {(None, name): facts for name, facts in outer_stretch(model, {}).attributes.items()}


def _differences(path: str, one: Facts, other: Facts) -> Iterator[tuple[str, Any, Any]]:
    section = next((section for section, paths in SECTIONS.items() if path in paths), "")
    for key in OF_SECTION.get(section, OF_PATH.get(path, ())):
        own, theirs = _value(one, key), _value(other, key)
        if own != theirs:
            yield key, own, theirs


def _value(facts: Facts, key: str) -> Any:
    if isinstance(facts, LayerFacts):
        return getattr(facts, IN_LAYERS[key]) if key in IN_LAYERS else facts.settings.get(key)
    return getattr(facts, OUTSIDE[key], None) if key in OUTSIDE else None
