"""A spec's rotary positions to the IR's, defaults filled in; what does not go together is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import assert_never

from motc.ir.rope import (
    Axes,
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    Rope,
    Scaling,
    ScalingKind,
    Theta,
    YarnScaling,
)
from motc.schema import Checked
from motc.schema.attention import RopeSpec, ScalingSpec
from motc.schema.spec import TowerSpec
from motc.source import Diagnostic

KEYS: dict[ScalingKind, tuple[str, ...]] = {
    "linear": (),
    "dynamic": ("original_length",),
    "llama3": ("original_length", "low_freq_factor", "high_freq_factor"),
    "yarn": ("original_length", "beta_fast", "beta_slow", "attention_factor", "truncate"),
}
"""What a kind of scaling has beside its factor. It needs `original_length` where it has that."""


def theta_of(rope: RopeSpec | None, tower: TowerSpec | None) -> Theta | None:
    """The base of the frequencies by which a tower's queries and keys turn; None where nothing does."""
    if rope is None:
        return None
    own = tower.attention.rope.theta if tower is not None and tower.attention.rope is not None else None
    theta = rope.theta if own is None else own
    return tuple(map(float, theta)) if isinstance(theta, list) else float(theta)


def lower_rope(rope: RopeSpec | None, head_dim: int, thetas: Sequence[Theta | None]) -> Rope | None:
    """The rotary positions of heads of this size, which `check_rope` has found right.

    `thetas` are what `theta_of` says for each modality, None where it has no attention.
    """
    first = next((theta for theta in thetas if theta is not None), None)
    if rope is None or first is None:
        return None
    each = tuple(first if theta is None else theta for theta in thetas)
    return Rope(
        theta=first,
        thetas=each if len(set(each)) > 1 else (),
        pairing=rope.pairing,
        fraction=rotated(head_dim, rope) / head_dim,
        scaling=None if rope.scaling is None else _scaling(rope.scaling),
        axes=_axes(rope),
    )


def rotated(head_dim: int, rope: RopeSpec) -> int:
    """How many components of a head rotate."""
    return int(head_dim * rope.fraction)


def _axes(rope: RopeSpec) -> Axes | None:
    if rope.sections is not None:
        return Axes(pairs=tuple(rope.sections), arrangement=rope.arrangement or "split")
    if rope.axes is not None:
        return Axes(pairs=tuple(size // 2 for size in rope.axes), arrangement="own")
    return None


def _scaling(spec: ScalingSpec) -> Scaling:
    factor, length = float(spec.factor), spec.original_length or 0
    match spec.kind:
        case "linear":
            return LinearScaling(factor=factor)
        case "dynamic":
            return DynamicScaling(factor=factor, original_length=length)
        case "llama3":
            low, high = _llama3(spec)
            return Llama3Scaling(factor=factor, low_freq_factor=low, high_freq_factor=high, original_length=length)
        case "yarn":
            fast, slow = _yarn(spec)
            return YarnScaling(
                factor=factor,
                beta_fast=fast,
                beta_slow=slow,
                original_length=length,
                attention_factor=float(spec.attention_factor or 0.1 * math.log(factor) + 1.0),
                truncate=spec.truncate is not False,
            )
        case _:
            assert_never(spec.kind)


def _llama3(spec: ScalingSpec) -> tuple[float, float]:
    return float(spec.low_freq_factor or 1.0), float(spec.high_freq_factor or 4.0)


def _yarn(spec: ScalingSpec) -> tuple[float, float]:
    return float(spec.beta_fast or 32.0), float(spec.beta_slow or 1.0)


def check_rope(checked: Checked, head_dim: int, errors: list[Diagnostic]) -> None:
    """Whether pairs can rotate in heads of this size, and the keys of a scaling go together. Appends to `errors`."""
    rope = checked.spec.attention.rope
    _check_towers(checked, rope, errors)
    if rope is None:
        return
    size = rotated(head_dim, rope)
    if rope.fraction == 1 and size % 2:
        low_rank, said = checked.spec.attention.low_rank is not None, checked.spec.attention.head_dim
        name = "rope_dim" if low_rank else "head_dim"
        message = f"rope rotates pairs, so {name} must be even, not {head_dim}"
        place = ("low_rank", "rope_dim") if low_rank else ("head_dim",) if said else ("heads",)
        span, way_out = checked.span("attention", *place), f"use an even {name}, or rope = none"
        errors.append(Diagnostic(code="MOT052", message=message, span=span, help=way_out))
    elif size % 2 or not size:
        message = f"rope rotates pairs, and a fraction {rope.fraction:g} of {head_dim} are {size} components"
        span = checked.span("attention", "rope", "fraction")
        way_out = "choose a fraction that gives an even number, 2 at least"
        errors.append(Diagnostic(code="MOT052", message=message, span=span, help=way_out))
    if rope.scaling is not None:
        _check_scaling(checked, rope, rope.scaling, size, errors)
    _check_axes(checked, rope, size, errors)


def _check_towers(checked: Checked, rope: RopeSpec | None, errors: list[Diagnostic]) -> None:
    """Whether towers may have a theta of their own: where there is one to be another than."""
    for name, tower in checked.spec.towers.items():
        if tower.attention.rope is None or tower.attention.rope.theta is None:
            continue
        yarn = rope is not None and rope.scaling is not None and rope.scaling.kind == "yarn"
        if rope is None:
            message, way_out = "there are no rotary positions", "leave it out, or give the model some"
        elif isinstance(rope.theta, list):
            message, way_out = "each axis has a theta of its own", "leave it out, or give the model one theta"
        elif yarn and tower.attention.rope.theta <= 1:
            message, way_out = "a scaling of kind yarn needs a theta above 1", "such as theta = 10000"
        else:
            continue
        span = checked.span("towers", name, "attention", "rope")
        message = f"tower {name} cannot have this theta: {message}"
        errors.append(Diagnostic(code="MOT083", message=message, span=span, help=way_out))


def _check_scaling(checked: Checked, rope: RopeSpec, scaling: ScalingSpec, size: int, errors: list[Diagnostic]) -> None:
    place = ("attention", "rope", "scaling")
    kind = scaling.kind

    def error(message: str, key: str, way_out: str) -> None:
        span = checked.span(*place, key)
        errors.append(Diagnostic(code="MOT080", message=message, span=span, help=way_out))

    for key in dict.fromkeys(key for keys in KEYS.values() for key in keys):
        if key not in KEYS[kind] and getattr(scaling, key) is not None:
            kinds = " or ".join(other for other, keys in KEYS.items() if key in keys)
            error(f"`{key}` says nothing in a scaling of kind {kind}", key, f"leave it out, or use kind = {kinds}")
    if "original_length" in KEYS[kind] and scaling.original_length is None:
        error(f"a scaling of kind {kind} needs `original_length`", "kind", "such as original_length = 8192")
    match kind:
        case "linear":
            pass
        case "dynamic":
            if size < 4:
                error("a scaling of kind dynamic needs 4 components that rotate", "kind", "rotate more of a head")
        case "llama3":
            low, high = _llama3(scaling)
            if high <= low:
                error(f"`high_freq_factor` {high:g} is not above `low_freq_factor` {low:g}", "kind", "as 4 is above 1")
        case "yarn":
            fast, slow = _yarn(scaling)
            if fast <= slow:
                error(f"`beta_fast` {fast:g} is not above `beta_slow` {slow:g}", "kind", "as 32 is above 1")
            if isinstance(rope.theta, float) and rope.theta <= 1:
                error("a scaling of kind yarn needs a theta above 1", "kind", "such as theta = 10000")
        case _:
            assert_never(kind)


def check_axes(specs: Iterable[Checked], errors: list[Diagnostic]) -> int | None:
    """Of how many numbers positions are, of `specs` that hold for some layers each; None where nothing rotates.

    Appends to `errors` where layers differ in it.
    """
    known: dict[int, Checked] = {}
    for checked in specs:
        rope = checked.spec.attention.rope
        if rope is not None:
            known.setdefault(len(rope.sections or rope.axes or [1]), checked)
    if len(known) > 1:
        (count, first), (other, second) = list(known.items())[:2]
        message = f"a position is {count} numbers in some layers and {other} in others"
        related = (("the other ones", first.span("attention", "rope")),)
        way_out = "give all layers that rotate as many axes"
        span = second.span("attention", "rope")
        errors.append(Diagnostic(code="MOT081", message=message, span=span, help=way_out, related=related))
    return next(iter(known), None)


def _check_axes(checked: Checked, rope: RopeSpec, size: int, errors: list[Diagnostic]) -> None:
    """Whether the axes have all of the pairs that rotate, and can have them in their arrangement."""

    def error(message: str, key: str, way_out: str) -> None:
        span = checked.span("attention", "rope", key)
        errors.append(Diagnostic(code="MOT081", message=message, span=span, help=way_out))

    if rope.sections is not None and rope.axes is not None:
        error("`sections` and `axes` both say what turns by which axis", "axes", "keep one of the two")
    elif rope.sections is not None:
        _check_sections(rope, rope.sections, size // 2, error)
    elif rope.arrangement is not None:
        error("`arrangement` says nothing without `sections`", "arrangement", "leave it out, or say the sections")
    if rope.axes is not None:
        if any(components % 2 for components in rope.axes):
            error("an axis turns pairs, so it has an even number of components", "axes", "such as [16, 24, 24]")
        elif sum(rope.axes) != size:
            error(f"the axes have {sum(rope.axes)} components, and {size} rotate", "axes", "make them as many")
        if rope.scaling is not None:
            error("frequencies of `axes` cannot be scaled", "scaling", "leave it out, or use `sections`")
    if isinstance(rope.theta, list):
        if rope.axes is None:
            error("a theta for each axis needs `axes`", "theta", "say one theta, or the components of each axis")
        elif len(rope.theta) != len(rope.axes):
            error(
                f"{len(rope.theta)} thetas are not one for each of {len(rope.axes)} axes", "theta", "say one for each"
            )


def _check_sections(rope: RopeSpec, sections: list[int], pairs: int, error: Callable[[str, str, str], None]) -> None:
    if sum(sections) != pairs:
        error(f"the sections have {sum(sections)} pairs, and {pairs} rotate", "sections", "make them as many")
        return
    first, *others = sections
    match rope.arrangement or "split":
        case "split":
            pass
        case "interleaved":
            ends = [len(sections) * (count - 1) + axis for axis, count in enumerate(others, 1)]
            if max(ends) >= pairs:
                message = f"sections cannot take turns where the first has {first} pairs and another {max(others)}"
                error(message, "sections", "make the first as large as the others, or use arrangement = split")
        case "spatial_first":
            if len(set(others)) > 1:
                message = "sections after the first cannot take turns where they have different numbers of pairs"
                error(message, "sections", "make them alike, or use arrangement = split")
        case _:
            assert_never(rope.arrangement)
