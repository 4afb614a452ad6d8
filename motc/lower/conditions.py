"""Whether what a spec says of conditions, and of the norms that are adaptive by them, goes together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from motc.lower.attributes import condition_width, stream_width
from motc.schema import Checked
from motc.schema.conditions import AdaptiveSpec, ConditionSpec, SinusoidsSpec
from motc.schema.norms import AdaptiveNormAttributes, NormSpec, TowerNorm
from motc.source import Diagnostic
from motc.source.nearest import suggestion

Place = tuple[str, ...]


def check_conditions(checked: Checked, specs: Iterable[Checked], errors: list[Diagnostic]) -> None:
    """Conditions are of latents, and norms are adaptive by such; `specs` are those of layers. Appends to `errors`."""
    for name, modality in checked.spec.modalities.items():
        if modality.condition is not None:
            _check_condition(checked, name, modality.condition, errors)
    by_modality: dict[str, str] = {}
    _check_final(checked, errors)
    for spec in specs:
        for place, adaptive in _adaptive(spec):
            _check_adaptive(spec, place, adaptive, errors)
        for name, by in _bys(spec).items():
            if by_modality.setdefault(name, by) != by:
                message = f"norms of {name} are adaptive by {by} in some layers, and by {by_modality[name]} in others"
                errors.append(_refusal(spec, ("norm", "adaptive"), message, "name one modality in all layers"))
    for name, modality in checked.spec.modalities.items():
        if modality.condition is not None and name not in by_modality.values() and not errors:
            message = f"no norm has the condition of {name}"
            way_out = f"say norm {{ adaptive = {name} }}, in the model or in a tower, or leave the condition out"
            errors.append(_refusal(checked, ("modalities", name, "condition"), message, way_out))


def _adaptive(checked: Checked) -> Iterator[tuple[Place, AdaptiveSpec]]:
    """Where it is said that norms are adaptive, and how, final ones included."""
    towers = ((("towers", name, "norm"), tower.norm) for name, tower in checked.spec.towers.items())
    norms: list[tuple[Place, NormSpec | TowerNorm]] = [(("norm",), checked.spec.norm), *towers]
    for place, norm in norms:
        if norm.adaptive is not None:
            yield (*place, "adaptive"), norm.adaptive
        if isinstance(norm.final, AdaptiveNormAttributes) and norm.final.adaptive is not None:
            yield (*place, "final", "adaptive"), norm.final.adaptive


def _bys(checked: Checked) -> dict[str, str]:
    """Of each modality with adaptive norms, by whose condition they are."""
    spec = checked.spec
    bys = {}
    for name in spec.modalities:
        norm = spec.norm
        tower = next((tower for tower in spec.towers.values() if name in tower.modalities), None)
        said = {} if tower is None else tower.norm.said()
        adaptive = said.get("adaptive", norm.adaptive)
        if adaptive is not None:
            bys[name] = adaptive.by
    return bys


def _check_final(checked: Checked, errors: list[Diagnostic]) -> None:
    """A final norm is adaptive by the modality that norms of layers are adaptive by."""
    spec, bys = checked.spec, _bys(checked)
    for name in spec.modalities:
        tower = next((each for each, tower in spec.towers.items() if name in tower.modalities), None)
        place: Place = ("norm", "final")
        said = spec.norm.final
        if tower is not None and spec.towers[tower].norm.final is not None:
            place, said = ("towers", tower, *place), spec.towers[tower].norm.final
        final = said.adaptive if isinstance(said, AdaptiveNormAttributes) else None
        if final is not None and bys.get(name, "") != final.by:
            message = f"the final norm of {name} is adaptive by {final.by}, and its norms in layers are not"
            others = [
                tower for tower, of in spec.towers.items() if any(bys.get(each) == final.by for each in of.modalities)
            ]
            way_out = "say the same of norm.adaptive"
            if tower not in others and others and place[0] == "norm":
                way_out = f"say `final` of the towers whose norms are: tower {others[0]} {{ norm {{ final {{ … }} }} }}"
            errors.append(_refusal(checked, place, message, way_out))


def _check_adaptive(checked: Checked, place: Place, adaptive: AdaptiveSpec, errors: list[Diagnostic]) -> None:
    spec = checked.spec
    known = [name for name, modality in spec.modalities.items() if modality.condition is not None]
    if adaptive.by not in known:
        message = f"`{adaptive.by}` is no modality with a condition"
        way_out = suggestion(adaptive.by, known, f"give one to it: modality {adaptive.by} {{ condition {{ … }} }}")
        errors.append(_refusal(checked, place, message, way_out))
    if len(set(adaptive.parts)) < len(adaptive.parts):
        errors.append(_refusal(checked, (*place, "parts"), "a part is named twice", "name each once"))
    is_final = place[-2] == "final"
    if "gate" in adaptive.said() and (is_final or "gate" not in adaptive.parts):
        message = "`gate` says nothing " + ("of a final norm" if is_final else "where no part is the gate")
        errors.append(_refusal(checked, (*place, "gate"), message, "leave it out, or name gate in `parts`"))
    if adaptive.table and adaptive.shared is None and adaptive.map:
        message = "a table is added to what maps give that layers share, or where there are no maps"
        errors.append(_refusal(checked, (*place, "table"), message, "say `shared`, or leave the table out"))
    if adaptive.shared is not None and (is_final or not adaptive.map):
        message = "a final norm shares no maps" if adaptive.map else "there are no maps to share"
        errors.append(_refusal(checked, (*place, "shared"), message, "leave it out"))
    if not adaptive.map and not errors:
        _check_widths(checked, place, adaptive, errors)
    if not is_final and spec.norm.placement not in ("pre", "both"):
        message = f"norms that are {spec.norm.placement} cannot be adaptive: nothing is normed before a sublayer"
        errors.append(_refusal(checked, place, message, "use placement = pre, or both"))


def _check_widths(checked: Checked, place: Place, adaptive: AdaptiveSpec, errors: list[Diagnostic]) -> None:
    """Without maps a condition's vector is added to what is of the stream's width."""
    spec, width = checked.spec, condition_width(checked.spec, adaptive.by)
    members = spec.towers[place[1]].modalities if place[0] == "towers" else list(spec.modalities)
    if other := next((name for name in members if stream_width(spec, name) != width), None):
        message = f"without maps a condition of {width} is as wide as the stream, and {other}'s is not"
        errors.append(_refusal(checked, (*place, "map"), message, "give both one width, or leave `map` out"))


def _check_condition(checked: Checked, name: str, condition: ConditionSpec, errors: list[Diagnostic]) -> None:
    place = ("modalities", name, "condition")
    if checked.spec.modalities[name].latent is None:
        message = f"a condition is of latents, and {name} has none"
        errors.append(_refusal(checked, place, message, "give it to a modality with `latent`"))
    parts = {part: getattr(condition, part) for part in ("timestep", "label", "number", "vector")}
    if not any(part is not None for part in parts.values()):
        message, way_out = "a condition is made of nothing", "name a part, such as `timestep { }`"
        errors.append(_refusal(checked, place, message, way_out))
    for part, said in parts.items():
        if isinstance(said, SinusoidsSpec):
            _check_sinusoids(checked, (*place, part), said, errors)


def _check_sinusoids(checked: Checked, place: Place, said: SinusoidsSpec, errors: list[Diagnostic]) -> None:
    if said.size % 2 or (said.size < 4 and (said.closed or said.min_period is not None)):
        message = f"{said.size} is no number of cosines and as many sines"
        errors.append(_refusal(checked, (*place, "size"), message, "use an even number, 4 or more"))
    in_vain = [key for key in ("scale", "closed") if key in said.said()]
    if said.min_period is not None and in_vain:
        message = f"`{in_vain[0]}` says nothing of sinusoids whose periods go from min_period to max_period"
        errors.append(_refusal(checked, (*place, in_vain[0]), message, "leave one of the two out"))
    if said.min_period is not None and (said.max_period is None or said.max_period <= said.min_period):
        message = "periods go up, from min_period to max_period"
        errors.append(_refusal(checked, (*place, "min_period"), message, "say both, the shorter one as min_period"))


def _refusal(checked: Checked, place: Place, message: str, way_out: str) -> Diagnostic:
    return Diagnostic(code="MOT094", message=message, span=checked.key_span(*place), help=way_out)
