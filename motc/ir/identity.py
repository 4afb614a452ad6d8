"""A model's identity: a hash of what it means, not of how its spec is written.

Hashes stand in checkpoints, so the text that is hashed is a contract: a new field of the IR, with a default, changes no
hash of a model that does not use it. Names of classes and fields are part of the text, and so is which fields have
defaults: whoever changes one of these has the old text written here, or counts FORMAT up.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, Field, fields, is_dataclass
from fractions import Fraction
from itertools import groupby
from typing import Any

from motc.ir.feed_forward import FeedForward, Mixture
from motc.ir.layer import Layer
from motc.ir.model import Model

FORMAT = 1
"""Which text is hashed. Hashes of two formats cannot be compared."""

NAMES_ALONE = ("name", "towers")
"""Fields of a model that change nothing it does: where something is untied by towers, the blocks say so."""


def semantic_hash(model: Model) -> str:
    """The format, a dash and 16 hexadecimal digits, such as `1-0f5e2a97c3d4b681`.

    Equal for models that mean the same, whatever their name, the formatting or the order of statements of their specs,
    the pass the IR has come to, and the strategy.
    """
    return f"{FORMAT}-{hashlib.sha256(canonical(model).encode()).hexdigest()[:16]}"


def canonical(model: Model) -> str:
    """What is hashed: JSON in one line, its keys sorted, with each kind of layer once and `[count, kind]` for each run.

    Raises TypeError if the IR holds a value that has no form here.
    """
    kinds = [layer for layer, _ in model.kinds]
    places = {id(layer): place for place, layer in enumerate(kinds)}
    runs = groupby(model.segments, key=lambda segment: places[id(segment.layer)])
    form = _fields(model, leave_out=(*NAMES_ALONE, "segments"))
    form["kinds"] = [to_json(layer) for layer in kinds]
    form["layers"] = [[sum(segment.count for segment in run), place] for place, run in runs]
    return json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def to_json(value: object) -> Any:
    """A value of the IR as JSON; equal values are written alike, others are not.

        Norm(kind="rms", shape=(8,), eps=1e-05)    {"is": "Norm", "kind": "rms", "shape": [8], "eps": 1e-05}

    A field that has its default is left out, and so is one that takes no part in comparisons. Raises TypeError for
    what is no value of the IR.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return int(value) if value.is_integer() else value
        case Fraction():
            return str(value)
        case tuple():
            return [to_json(item) for item in value]
        case Layer():
            return _layer(value)
        case FeedForward() | Mixture():
            return {**_fields(value), "is": "Ffn"}
        case _ if is_dataclass(value):
            return _fields(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no form that could be hashed")


def _layer(layer: Layer) -> dict[str, Any]:
    """A layer: each sublayer's body with its norms, by its role, and where the norms stand.

    {"is": "Layer", "placement": "pre", "attention": {"is": "Attention", ..., "norm": {...}}, "ffn": {...}}

    If sublayers differ in where norms stand, or have other than one, each says it; roles that differ are listed.
    """
    form: dict[str, Any] = {"is": "Layer"}
    placements = {tuple(sublayer.norms) for sublayer in layer.sublayers}
    alike = len(placements) == 1 and len(*placements) == 1
    if alike:
        ((form["placement"],),) = placements
    for sublayer in layer.sublayers:
        norms = {placement: to_json(leaf) for placement, leaf in sublayer.norms.items()}
        said = {"norm": next(iter(norms.values()))} if alike else {"norms": norms}
        reads = {} if sublayer.reads == "stream" else {"reads": sublayer.reads}
        reads |= {} if sublayer.onto == "stream" else {"onto": sublayer.onto}
        scale = {} if sublayer.scale == 1 else {"residual_scale": to_json(sublayer.scale)}
        adaptive = {} if sublayer.modulation is None else {"modulation": to_json(sublayer.modulation)}
        gate = {} if sublayer.out_gate is None else {"out_gate": to_json(sublayer.out_gate)}
        form[sublayer.role] = {**to_json(sublayer.body), **said, **reads, **scale, **adaptive, **gate}
    roles = [sublayer.role for sublayer in layer.sublayers]
    return form if roles == ["attention", "ffn"] else {**form, "roles": roles}


def _fields(value: Any, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    form: dict[str, Any] = {"is": type(value).__name__}
    for field in fields(value):
        content = getattr(value, field.name)
        if field.compare and field.name not in leave_out and content != _default(field):
            form[field.name] = to_json(content)
    return form


def _default(field: Field[Any]) -> Any:
    """A field's default, or what equals nothing that a field can hold."""
    return field.default if field.default_factory is MISSING else field.default_factory()
