"""The rules by which tokens are placed where positions are not given."""

from __future__ import annotations

from motc.ir.positions import AdvanceWord, PlacingKind, PositionRule
from motc.schema import Checked
from motc.schema.modalities import SpanPositionsSpec
from motc.source import Diagnostic

ADVANCE: dict[PlacingKind, int | AdvanceWord] = {
    "consecutive": "tokens",
    "same": 1,
    "grid": "extent",
    "centred": "tokens",
}
"""How much further a kind goes on after a span unless it is said."""

PLAIN = PositionRule(kind="consecutive", start=None, advance="tokens", delimiters=False)


def lower_positions(checked: Checked) -> dict[str, PositionRule | None]:
    """Each modality's rule, which `check_positions` has found right; None where tokens follow one another."""
    rules = {}
    for name, modality in checked.spec.modalities.items():
        rule = _rule(modality.positions or SpanPositionsSpec())
        rules[name] = None if rule == PLAIN else rule
    return rules


def _rule(spec: SpanPositionsSpec) -> PositionRule:
    advance = ADVANCE[spec.kind] if spec.advance is None else spec.advance
    return PositionRule(
        kind=spec.kind,
        start=spec.start,
        advance=advance,
        delimiters=spec.delimiters,
        noised_advance=spec.noised_advance,
    )


def check_positions(checked: Checked, axes: int | None, errors: list[Diagnostic]) -> None:
    """Whether the keys of each rule go together; `axes` are of how many numbers what rotates takes positions."""
    looked_at = axes is not None or checked.spec.positions.learned is not None
    _check_learned(checked, axes or 1, errors)
    for name, modality in checked.spec.modalities.items():
        spec = modality.positions
        if spec is None:
            continue
        rule = _rule(spec)

        def error(message: str, key: str, way_out: str, name: str = name) -> None:
            span = checked.span("modalities", name, "positions", key)
            errors.append(Diagnostic(code="MOT082", message=message, span=span, help=way_out))

        if rule.advance in ("extent", "spatial") and not rule.takes_grid:
            error(f"`{rule.advance}` is of a grid, and {rule.kind} tokens have none", "advance", "say a number")
        if rule.delimiters and (rule.kind != "same" or rule.start is not None or rule.advance == "tokens"):
            message = "delimiters share the position of tokens that are all at the same one, the next"
            error(message, "delimiters", "use kind = same, without start, and a number for advance")
        latent = modality.latent
        if spec.noised_advance is not None and latent is None:
            error("spans are noised of modalities with latents alone", "noised_advance", "leave it out")
        sides = len(latent.patch) if latent is not None and isinstance(latent.patch, list) else 2  # of tokens 2 or 3
        if rule.takes_grid and sides > (axes or 1) and looked_at:
            message = f"a grid of {sides} axes has no place in positions on {axes or 1}"
            error(message, "kind", "give rope sections or axes, or place the tokens one by one: leave the kind out")
    said = [name for name, modality in checked.spec.modalities.items() if modality.positions is not None]
    if not looked_at and (said or "first" in checked.spec.positions.model_fields_set):
        place = ("modalities", said[0], "positions") if said else ("positions", "first")
        message = "positions say nothing in a model that does not look at them"
        way_out = "leave them out, or give a layer rotary positions, or learned ones to all"
        errors.append(Diagnostic(code="MOT082", message=message, span=checked.span(*place), help=way_out))


def _check_learned(checked: Checked, axes: int, errors: list[Diagnostic]) -> None:
    spec = checked.spec.positions
    if spec.learned is None:
        return
    span = checked.span("positions", "learned")
    if axes > 1:
        message = f"a table has rows for positions of one number, and here they are of {axes}"
        way_out = "leave one of the two out"
        errors.append(Diagnostic(code="MOT082", message=message, span=span, help=way_out))
    elif spec.first >= spec.learned:
        message = f"of {spec.learned} learned positions the first cannot be {spec.first}"
        errors.append(Diagnostic(code="MOT082", message=message, span=span, help="learn more, or begin before"))
