"""Whether what a spec says of conditions, and of the norms that are adaptive by them, goes together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from motc.schema import Checked
from motc.schema.conditions import AdaptiveSpec, ConditionSpec, SinusoidsSpec
from motc.source import Diagnostic
from motc.source.nearest import suggestion

Place = tuple[str, ...]


def check_conditions(checked: Checked, specs: Iterable[Checked], errors: list[Diagnostic]) -> None:
    """Conditions are of latents, and norms are adaptive by such; `specs` are those of layers. Appends to `errors`."""
    for name, modality in checked.spec.modalities.items():
        if modality.condition is not None:
            _check_condition(checked, name, modality.condition, errors)
    by_modality: dict[str, str] = {}
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
    """Where it is said that norms are adaptive, and how."""
    if checked.spec.norm.adaptive is not None:
        yield ("norm", "adaptive"), checked.spec.norm.adaptive
    for name, tower in checked.spec.towers.items():
        if tower.norm.adaptive is not None:
            yield ("towers", name, "norm", "adaptive"), tower.norm.adaptive


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


def _check_adaptive(checked: Checked, place: Place, adaptive: AdaptiveSpec, errors: list[Diagnostic]) -> None:
    spec = checked.spec
    known = [name for name, modality in spec.modalities.items() if modality.condition is not None]
    if adaptive.by not in known:
        message = f"`{adaptive.by}` is no modality with a condition"
        way_out = suggestion(adaptive.by, known, f"give one to it: modality {adaptive.by} {{ condition {{ … }} }}")
        errors.append(_refusal(checked, place, message, way_out))
    if len(set(adaptive.parts)) < len(adaptive.parts):
        errors.append(_refusal(checked, (*place, "parts"), "a part is named twice", "name each once"))
    if "gate" in adaptive.said() and "gate" not in adaptive.parts:
        message = "`gate` says nothing where no part is the gate"
        errors.append(_refusal(checked, (*place, "gate"), message, "leave it out, or name gate in `parts`"))
    if adaptive.table and adaptive.shared is None:
        message = "a table of each layer is added to maps that layers share, and these share none"
        errors.append(_refusal(checked, (*place, "table"), message, "say `shared`, or leave the table out"))
    if spec.norm.placement not in ("pre", "both"):
        message = f"norms that are {spec.norm.placement} cannot be adaptive: nothing is normed before a sublayer"
        errors.append(_refusal(checked, place, message, "use placement = pre, or both"))


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
