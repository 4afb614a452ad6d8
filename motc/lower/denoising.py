"""What a spec says of denoising: the objective, how times are drawn, and what errors count by them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from motc.ir.denoising import PARAMETERS, WEIGHTINGS, Noising, Times, TokenShift, Weighting
from motc.schema import Checked
from motc.schema.modalities import LatentSpec, ObjectiveSpec, TimesSpec, TokenShiftSpec
from motc.schema.section import Section
from motc.source import Diagnostic, Span

NOISING = ("prediction", "variance", "schedule", "beta_start", "beta_end")
"""What an objective says of `ddpm` alone."""

SHIFT = ("max_tokens", "base_shift", "max_shift")
"""What a shift by tokens says of the kind `exponential` alone."""


def lower_noising(said: ObjectiveSpec) -> Noising:
    """What `ddpm` predicts and how it adds noise; the plain one where it says nothing, as of `flow`."""
    return Noising() if said.kind == "flow" else Noising(**_given(said, NOISING))


def lower_times(said: TimesSpec) -> Times:
    """How times are drawn."""
    parameters = {key: float(value) for key, value in _given(said, PARAMETERS[said.kind]).items()}
    by_tokens = None if said.shift_by_tokens is None else _token_shift(said.shift_by_tokens)
    return Times(
        kind=said.kind,
        low=float(said.low),
        high=float(said.high),
        shift=float(said.shift),
        by_tokens=by_tokens,
        each=said.each,
        **parameters,
    )


def lower_weighting(latent: LatentSpec) -> Weighting | None:
    """What errors count by their time; None for the same."""
    said = latent.weighting
    if said is None:
        return None
    return Weighting(kind=said.kind) if said.gamma is None else Weighting(kind=said.kind, gamma=float(said.gamma))


def _token_shift(said: TokenShiftSpec) -> TokenShift:
    return TokenShift(kind=said.kind, base_tokens=said.base_tokens or 256, **_given(said, SHIFT))


def _given(said: Section, keys: Iterable[str]) -> dict[str, Any]:
    """Those of some keys without a default that are said, with their values."""
    return {key: getattr(said, key) for key in keys if getattr(said, key) is not None}


def check_denoising(checked: Checked, name: str, latent: LatentSpec, errors: list[Diagnostic]) -> None:
    """Keys go with the kinds that have them, and what is drawn can be drawn. Appends to `errors`."""
    place = ("modalities", name, "latent")
    _check_objective(checked, (*place, "objective"), latent.objective, errors)
    _check_times(checked, (*place, "times"), latent.times, errors)
    _check_each(checked, (*place, "times", "each"), latent, errors)
    weighting, kind = latent.weighting, latent.objective.kind
    if weighting is None:
        return
    if weighting.kind not in WEIGHTINGS[kind]:
        message = f"errors of {kind} are not weighted by {weighting.kind}"
        _tell(checked, (*place, "weighting"), message, f"use {' or '.join(WEIGHTINGS[kind])}, or none", errors)
    elif weighting.gamma is not None and weighting.kind != "min_snr":
        message = f"`gamma` says nothing of {weighting.kind}"
        _tell(checked, (*place, "weighting", "gamma"), message, "leave it out, or use kind = min_snr", errors)
    elif weighting.kind == "snr" and lower_noising(latent.objective).prediction == "noise":
        message = "the error of a sample times signal over noise is the error of the noise: weighting says nothing here"
        _tell(checked, (*place, "weighting"), message, "leave it out, or use min_snr", errors)


def _check_objective(checked: Checked, place: tuple[str, ...], said: ObjectiveSpec, errors: list[Diagnostic]) -> None:
    given = [*_given(said, NOISING)]
    plain = lower_noising(said)
    if said.kind == "flow" and given:
        message = f"`{given[0]}` says nothing of flow, which predicts the velocity of a straight line"
        _tell(checked, (*place, given[0]), message, "leave it out, or use kind = ddpm", errors)
    elif plain.schedule == "cosine" and {"beta_start", "beta_end"} & {*given}:
        message = f"`{given[-1]}` says nothing of a cosine schedule"
        _tell(checked, (*place, given[-1]), message, "leave it out, or use schedule = linear or scaled_linear", errors)
    elif plain.beta_start >= plain.beta_end:
        message = f"noise grows from step to step, and not from {plain.beta_start:g} to {plain.beta_end:g}"
        _tell(checked, (*place, given[-1]), message, "say the smaller one as beta_start", errors)


def _check_times(checked: Checked, place: tuple[str, ...], said: TimesSpec, errors: list[Diagnostic]) -> None:
    for kind, keys in PARAMETERS.items():
        for key in keys:
            if kind != said.kind and getattr(said, key) is not None:
                message = f"`{key}` says nothing of times of kind {said.kind}"
                _tell(checked, (*place, key), message, f"leave it out, or use kind = {kind}", errors)
    if said.low >= said.high:
        message = f"times go from `low` up to `high`, and not from {said.low:g} to {said.high:g}"
        key = "low" if "low" in said.model_fields_set else "high"
        _tell(checked, (*place, key), message, "say the smaller one as low", errors)
    shift = said.shift_by_tokens
    if shift is None:
        return
    place = (*place, "shift_by_tokens")
    given = [*_given(shift, SHIFT)]
    if said.shift != 1:
        message = "times are shifted twice: by a number, and by a latent's tokens"
        related = (("the number", checked.span(*place[:-1], "shift")),)
        _tell(checked, place, message, "keep one of the two", errors, related)
    if shift.kind == "sqrt" and given:
        message = f"`{given[0]}` says nothing of a shift of kind sqrt"
        _tell(checked, (*place, given[0]), message, "leave it out, or use kind = exponential", errors)
    elif shift.kind == "sqrt" and shift.base_tokens is None:
        message = "a shift of kind sqrt needs `base_tokens`, the number of tokens that has none"
        _tell(checked, place, message, "such as base_tokens = 1024", errors)
    elif shift.kind == "exponential" and _token_shift(shift).max_tokens <= _token_shift(shift).base_tokens:
        message = "a shift lies on the line through two points, and `max_tokens` is not above `base_tokens`"
        _tell(checked, place, message, "such as base_tokens = 256, max_tokens = 4096", errors)


def _check_each(checked: Checked, place: tuple[str, ...], latent: LatentSpec, errors: list[Diagnostic]) -> None:
    each, axes = latent.times.each, 2 if isinstance(latent.patch, int) else len(latent.patch)
    if each != "span" and latent.ends == "unet":
        message = f"a U-Net is told one timestep of a span, and none of each {each}"
        _tell(checked, place, message, "leave it out, or use linear ends", errors)
    elif each == "frame" and axes != 3:
        message = f"frames are along the first of three axes, and here there are {axes}"
        _tell(checked, place, message, "use each = token, or leave it out", errors)


def _tell(
    checked: Checked,
    place: tuple[str, ...],
    message: str,
    way_out: str,
    errors: list[Diagnostic],
    related: tuple[tuple[str, Span], ...] = (),
) -> None:
    span = checked.span(*place)
    errors.append(Diagnostic(code="MOT120", message=message, span=span, help=way_out, related=related))
