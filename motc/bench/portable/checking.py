"""How far a network's outputs and gradients are from those of the boolean-mask reference."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite, sqrt

import torch
from torch import Tensor

from .batches import DrawnBatch
from .sides import Side, mean_squares

Tensors = Mapping[str, Tensor]

TOLERANCES = {"float32": (1e-5, 1e-4), "bfloat16": (2e-2, 5e-2)}
"""The largest error of outputs and of gradients: the norm of the difference, in norms of the truth.

The truth is the reference in float32 with the same parameters, so that in bfloat16 all of its rounding is in the error.
"""

LONG_SUM = 4096
"""Products that add up more numbers than this round more: tolerances grow as the root of how many there are."""

BESIDE_REFERENCE = 1.5
"""How many times the reference's own error in a dtype is allowed, where that is more: rounding grows with width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the reference says of a batch in float32, and its own largest errors in the dtype that is checked."""

    outputs: Tensors
    gradients: Tensors
    output_rounding: float = 0.0
    gradient_rounding: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The largest errors in outputs and in gradients, and whose they are. None: infinite, or no number."""

    output_error: float | None
    gradient_error: float | None
    output: str
    parameter: str
    ok: bool


def find_truth(reference: Side, batch: DrawnBatch) -> Truth:
    """Outputs, and the gradients of the mean of their squares; the reference becomes float32, if it is not."""
    is_rounded = any(parameter.dtype != torch.float32 for parameter in reference.network.parameters())
    rounded = _outputs_and_gradients(reference, batch) if is_rounded else None
    reference.network.float()
    outputs, gradients = _outputs_and_gradients(reference, batch)
    if rounded is None:
        return Truth(outputs=outputs, gradients=gradients)
    return Truth(
        outputs=outputs,
        gradients=gradients,
        output_rounding=_worst(rounded[0], outputs)[1],
        gradient_rounding=_worst(rounded[1], gradients)[1],
    )


def check(side: Side, batch: DrawnBatch, truth: Truth, dtype: str) -> Check:
    """A network that has the reference's parameters, in a dtype."""
    outputs, gradients = _outputs_and_gradients(side, batch)
    output, output_error = _worst(outputs, truth.outputs)
    parameter, gradient_error = _worst(gradients, truth.gradients)
    grown = sqrt(max(1.0, _longest_sum(side) / LONG_SUM))
    most_output, most_gradient = (grown * tolerance for tolerance in TOLERANCES[dtype])
    most_output = max(most_output, BESIDE_REFERENCE * truth.output_rounding)
    most_gradient = max(most_gradient, BESIDE_REFERENCE * truth.gradient_rounding)
    return Check(
        output_error=output_error if isfinite(output_error) else None,
        gradient_error=gradient_error if isfinite(gradient_error) else None,
        output=output,
        parameter=parameter,
        ok=output_error <= most_output and gradient_error <= most_gradient,  # never if one is NaN
    )


def _longest_sum(side: Side) -> int:
    """Of how many numbers a product of the network adds up most: the inputs of its largest linear map."""
    return max((parameter.shape[-1] for parameter in side.network.parameters() if parameter.ndim > 1), default=1)


@contextlib.contextmanager
def _whole_float32() -> Iterator[None]:
    """Convolutions of float32 tensors use all of it: on CUDA they round to TF32 unless they are told not to."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _outputs_and_gradients(side: Side, batch: DrawnBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    side.drop_gradients()
    with _whole_float32():
        outputs = side.outputs(batch)
        mean_squares(outputs).backward()  # type: ignore[no-untyped-call]
    gradients = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in side.network.named_parameters()
    }
    side.drop_gradients()  # which leaves the tensors to us
    return {name: tensor.detach().clone() for name, tensor in outputs.items()}, gradients


def _worst(ours: Tensors, truth: Tensors) -> tuple[str, float]:
    """The name of the tensor that is off most, and by how much; one that is missing is infinitely off."""
    if ours.keys() != truth.keys():
        return ", ".join(sorted(ours.keys() ^ truth.keys())), float("inf")
    errors = {name: _error(ours[name], truth[name]) for name in truth}
    name = max(errors, key=lambda name: float("inf") if errors[name] != errors[name] else errors[name])
    return name, errors[name]


def _error(ours: Tensor, truth: Tensor) -> float:
    if ours.shape != truth.shape:
        return float("inf")
    difference, size = float((ours.float() - truth.float()).norm()), float(truth.float().norm())
    return difference / size if size else (0.0 if difference == 0 else float("inf"))
