"""The angles of rotary positions, as text."""

from __future__ import annotations

from typing import assert_never

from motc.ir.rope import Angles, Axes, DynamicScaling, LinearScaling, Llama3Scaling, Theta, YarnScaling
from motc.plan.constants import Constants


def angles_expression(angles: Angles, constants: Constants, dtype: str, names: tuple[str, ...]) -> str:
    """The expression of cosine and sine of the `positions`, in a model of these modalities."""
    scaling, axes, positions = angles.scaling, angles.axes, "positions"
    if angles.restarting:
        positions = f"restarted(positions, layout, {tuple(names.index(name) for name in angles.restarting)!r})"
    if scaling is None and axes is None and not angles.thetas:
        size, base = constants.named("HEAD_DIM | ROPE_DIM", angles.size), constants.named("ROPE_THETA", angles.theta)
        return f"rope_angles({positions}, {size}, {base}, {dtype})"
    frequencies = _frequencies(angles, angles.theta, constants)
    if angles.thetas:
        each = ", ".join(_frequencies(angles, theta, constants) for theta in angles.thetas)
        frequencies = f"of_modalities(layout, ({each}))"
    positions = positions if axes is None else f"on_axes({positions}, {_axes_of_pairs(axes)})"
    factor = f", {scaling.attention_factor!r}" if isinstance(scaling, YarnScaling) else ""
    return f"rope_turned({positions}, {frequencies}, {dtype}{factor})"


def _frequencies(angles: Angles, theta: Theta, constants: Constants) -> str:
    """The expression of the pairs' frequencies."""
    size, base = constants.named("HEAD_DIM | ROPE_DIM", angles.size), constants.named("ROPE_THETA", theta)
    scaling, axes = angles.scaling, angles.axes
    given = f"{size}, {base}, positions.device"
    given += "" if scaling is None else f", factor={scaling.factor!r}"
    match scaling:
        case None if axes is not None and axes.arrangement == "own":
            sizes = tuple(2 * pairs for pairs in axes.pairs)
            return f"axis_frequencies({sizes!r}, {base}, positions.device)"
        case None:
            return f"plain_frequencies({given})"
        case LinearScaling():
            return f"linear_frequencies({given})"
        case DynamicScaling(original_length=length):
            lengths = "lengths_of(positions, layout)"
            return f"dynamic_frequencies({given}, original_length={length}, lengths={lengths})"
        case Llama3Scaling(low_freq_factor=low, high_freq_factor=high, original_length=length):
            ramp = f"low_freq_factor={low!r}, high_freq_factor={high!r}, original_length={length}"
            return f"llama3_frequencies({given}, {ramp})"
        case YarnScaling(beta_fast=fast, beta_slow=slow, original_length=length, truncate=truncate):
            ramp = f"beta_fast={fast!r}, beta_slow={slow!r}, original_length={length}, truncate={truncate!r}"
            return f"yarn_frequencies({given}, {ramp})"
        case _:
            assert_never(scaling)


def _axes_of_pairs(axes: Axes) -> str:
    """The expression of each pair's axis."""
    pairs = ", ".join(map(str, axes.pairs))
    match axes.arrangement:
        case "split" | "own":
            return f"split_axes({pairs})"
        case "interleaved":
            return f"interleaved_axes({pairs})"
        case "spatial_first":
            return f"spatial_first_axes({pairs})"
        case _:
            assert_never(axes.arrangement)
