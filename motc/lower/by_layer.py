"""Statements about some layers: what the spec says of each layer, once they are applied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from motc.schema import Checked, Spec
from motc.schema.attention import LowRankSpec, MaskSpec, QkNormSpec, ScalingSpec
from motc.schema.conditions import AdaptiveSpec
from motc.schema.keys import sections_in
from motc.schema.section import Section
from motc.schema.spec import LayersSpec, TowerSpec
from motc.schema.values import LayerNumbers
from motc.source import Diagnostic, Span
from motc.source.nearest import suggestion

Path = tuple[str, ...]
Winners = tuple[int | None, ...]
"""Of each key that some statement says: the last statement that says it, or None."""


def specs_by_layer(checked: Checked, errors: list[Diagnostic]) -> tuple[Checked, ...]:
    """The spec of each layer: what statements say of it stands in place of what the spec says of all layers.

    Layers of which the same statements say the same have one object, and where others say it, that has one `spec`.
    Appends to `errors`.
    """
    layers = checked.spec.layers
    said: list[dict[Path, Any]] = []
    winners: dict[Path, list[int | None]] = {}
    for index, statement in enumerate(checked.spec.by_layer):
        is_within = check_layers(checked, ("by_layer", index, "layers"), statement.layers, errors)
        _check_towers(checked, index, statement, errors)
        said.append(dict(_keys(statement)))
        if not is_within:
            continue
        first, last, step = statement.layers
        places = slice(first, last + 1, step)
        count = len(statement.layers.numbers)
        for key in said[index]:
            for below in [each for each in winners if each[: len(key)] == key]:
                winners[below][places] = [None] * count
            winners.setdefault(key, [None] * layers)[places] = [index] * count
    if errors or not winners:
        return (checked,) * layers
    keys = sorted(winners, key=len)  # what is said of a section as a whole comes before what is said within it
    values = [{key: repr(value) for key, value in each.items()} for each in said]
    alike: dict[tuple[str | None, ...], Spec] = {}
    specs: dict[Winners, Checked] = {}
    by_layer: list[Checked] = []
    for won in zip(*(winners[key] for key in keys), strict=True):
        if won not in specs:
            here = {key: index for key, index in zip(keys, won, strict=True) if index is not None}
            same = tuple(values[here[key]][key] if key in here else None for key in keys)
            if same not in alike:
                alike[same] = _with(checked.spec, {key: said[index][key] for key, index in here.items()})
            specs[won] = replace(checked, spec=alike[same], said=here)
        by_layer.append(specs[won])
    return tuple(by_layer)


def check_layers(checked: Checked, place: tuple[str | int, ...], said: LayerNumbers, errors: list[Diagnostic]) -> bool:
    """Whether the model has the layers that a statement names. Appends to `errors`."""
    layers = checked.spec.layers
    if said.last < layers:
        return True
    message = f"layers {said} are not within the model's 0..{layers - 1}"
    way_out = "layers count from 0 and a range includes both ends"
    related: tuple[tuple[str, Span], ...] = ()
    here, there = checked.span(*place), checked.span("layers")
    if here.source != there.source:  # which a spec that extends it has changed
        way_out = f"say {said.last + 1} layers at least, or start from a spec without this statement"
        related = (("how many there are", there),)
    errors.append(Diagnostic(code="MOT041", message=message, span=here, help=way_out, related=related))
    return False


def _check_towers(checked: Checked, index: int, statement: LayersSpec, errors: list[Diagnostic]) -> None:
    """A statement speaks of towers that there are: declared ones, and modalities that are in none of these."""
    spec = checked.spec
    towers = [*spec.towers, *_alone(spec)]
    for name in statement.towers:
        if name not in towers:
            way_out = suggestion(name, towers, f"towers: {', '.join(towers)}")
            span = checked.key_span("by_layer", index, "towers", name)
            errors.append(Diagnostic(code="MOT044", message=f"no tower `{name}`", span=span, help=way_out))


def _alone(spec: Spec) -> list[str]:
    """The modalities that are in no declared tower: each is a tower of its own name."""
    taken = {modality for tower in spec.towers.values() for modality in tower.modalities}
    return [name for name in spec.modalities if name not in taken]


def _keys(section: Section, above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """What a statement says, key by key. What says its kind, such as a mask, is one value, in place of the whole."""
    for name, value in section.said().items():
        path = (*above, name)
        match value:
            case LayerNumbers():
                pass
            case ScalingSpec() | QkNormSpec() | AdaptiveSpec() | LowRankSpec():  # which need their kind, or sizes
                yield path, value
            case MaskSpec() if "kind" in value.model_fields_set:
                yield path, value
            case Section():
                yield from _keys(value, path)
            case dict() if path == ("towers",):
                for tower, inner in value.items():
                    yield from _keys(inner, (*path, tower))
            case _:
                yield path, value


def _with(spec: Spec, values: dict[Path, Any]) -> Spec:
    """The spec with these values."""
    towers = dict(spec.towers)
    named = {path[1] for path in values if path[0] == "towers"}
    towers |= {name: TowerSpec(modalities=[name]) for name in spec.modalities if name in named - set(towers)}
    spec = spec.model_copy(update={"towers": towers})
    for path, value in values.items():
        spec = _replaced(spec, path, value)
    return spec


def _replaced(holder: Any, path: Path, value: Any) -> Any:
    """A section, or the mapping of towers, with another value at `path`."""
    key, *rest = path
    if rest:
        inner = holder[key] if isinstance(holder, dict) else getattr(holder, key)
        if inner is None:  # none, said of the section before
            inner = next(sections_in(type(holder).model_fields[key].annotation))()
        value = _replaced(inner, tuple(rest), value)
    return {**holder, key: value} if isinstance(holder, dict) else holder.model_copy(update={key: value})
