"""What a module and the reference give for a batch, and how two such results are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from motc.reference import (
    Batch,
    ReferenceConfig,
    Trace,
    reference_forward,
    reference_hidden,
    reference_loss,
    reference_predictions,
)
from motc.reference.batch import Several
from motc.validate.report import Tensors, deviation

Outputs = tuple[Tensors, Tensors, Tensors]
"""Logits, losses by modality with the total under its own name, and predictions of latents by modality."""

TOTAL, BALANCE, WEIGHT = ".total", ".balance", ".weight"


def run(module: nn.Module, batch: Batch, layout: object = None) -> Outputs:
    """A generated module's logits, losses and predictions."""
    given = {"position_ids": batch.position_ids, "document_ids": batch.document_ids, "layout": layout}
    clean = _of_latents(batch, "latents", "timesteps", "noise", "clean")
    clean |= {"features": batch.features} if batch.features else {}
    clean |= {"conditions": batch.conditions} if batch.conditions else {}
    targets = {"labels": batch.labels, "weights": batch.weights}
    losses = module.loss(batch.input_ids, batch.modality_ids, **targets, **given, **clean)  # type: ignore[operator]
    told = {TOTAL: losses.total, **losses.by_modality, **weights_of(losses)}
    if getattr(losses, "balance", None) is not None:
        told[BALANCE] = losses.balance
    logits, predictions = run_forward(module, batch, layout)
    return logits, told, {name: joined(each) for name, each in predictions.items()}


def run_forward(module: nn.Module, batch: Batch, layout: object = None) -> tuple[Tensors, dict[str, Several]]:
    """A generated module's logits, and predictions of latents by modality."""
    given = {"position_ids": batch.position_ids, "document_ids": batch.document_ids, "layout": layout}
    noised = _of_latents(batch, "latents", "timesteps", "clean")
    noised |= {"features": batch.features} if batch.features else {}
    noised |= {"conditions": batch.conditions} if batch.conditions else {}
    output = module(batch.input_ids, batch.modality_ids, **given, **noised)
    return output.logits, {name: output.predictions[name] for name in batch.latents}


def joined(values: Several) -> Tensor:
    """Those of several sizes as all of their numbers."""
    return torch.cat([x.flatten() for x in values]) if isinstance(values, list) else values


def _of_latents(batch: Batch, *names: str) -> dict[str, Any]:
    """What a batch has of latents under these names; nothing where it has none."""
    return {name: getattr(batch, name) for name in names} if batch.latents else {}


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """All that a reference reads of a module, by name: its parameters, and corrections of routers."""
    return module.state_dict(keep_vars=True)


def run_reference(config: ReferenceConfig, parameters: dict[str, Tensor], batch: Batch) -> Outputs:
    """The reference's logits and losses. Where there are no latents, which the loss noises anew, states serve both."""
    trace = Trace()
    hidden = reference_hidden(config, parameters, batch, trace)
    known = () if batch.latents else (trace, hidden)
    losses = reference_loss(config, parameters, batch, *known)
    told = {TOTAL: losses.total, **losses.by_modality, **weights_of(losses)}
    if losses.balance is not None:
        told[BALANCE] = losses.balance
    logits = reference_forward(config, parameters, batch, hidden=hidden)
    predictions = reference_predictions(config, parameters, batch, hidden)
    return logits, told, {name: joined(each) for name, each in predictions.items()}


def weights_of(losses: Any) -> dict[str, Tensor]:
    """What the means of a module's losses, or of the reference's, are divided by."""
    return {WEIGHT: losses.weight, **{f"{name}{WEIGHT}": weight for name, weight in losses.weights.items()}}


def without_balance(outputs: Outputs) -> Outputs:
    """The outputs without the load-balancing loss, which adds up over routers: a twin that shares them has another."""
    logits, losses, predictions = outputs
    assert not isinstance(losses, Tensor)
    kept = {name: value for name, value in losses.items() if name != BALANCE}
    return logits, {**kept, TOTAL: losses[TOTAL] - losses.get(BALANCE, torch.zeros(()))}, predictions


def latents_of(batch: Batch) -> dict[str, Tensor]:
    """The latents, features and vectors of conditions that a batch holds, which have gradients too."""
    vectors = {f"{name}.vector": given["vector"] for name, given in batch.conditions.items() if "vector" in given}
    latents = {
        f"{name}.latents.{number}": x
        for name, of in batch.latents.items()
        for number, x in enumerate(of if isinstance(of, list) else [of])
    }
    return latents | {f"{name}.latents": x for name, x in batch.features.items()} | vectors


def compare(actual: Outputs, expected: Outputs) -> list[float]:
    """The deviations of logits and losses."""
    return [deviation(mine, theirs) for mine, theirs in zip(actual, expected, strict=True)]


def flat(outputs: Outputs) -> dict[str, Tensor]:
    logits, losses, predictions = outputs
    named = {"": logits} if isinstance(logits, Tensor) else {f"{key}.logits": value for key, value in logits.items()}
    assert not isinstance(losses, Tensor)
    assert not isinstance(predictions, Tensor)
    return {**named, **losses, **{f"{key}.predictions": value for key, value in predictions.items()}}


def random_like(outputs: Outputs, generator: torch.Generator) -> dict[str, Tensor]:
    """A random tensor for each output: the gradient sent back into it, so that nothing cancels."""
    return {
        key: torch.randn(value.shape, generator=generator, dtype=torch.float64) for key, value in flat(outputs).items()
    }


def gradients_of(outputs: Outputs, weights: dict[str, Tensor], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every parameter's gradient of the weighted sum of all outputs; zeros where it takes no part."""
    objective = sum((value * weights[key]).sum() for key, value in flat(outputs).items())
    if not getattr(objective, "requires_grad", False):  # of a batch in which there is nothing to predict
        return {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    gradients = torch.autograd.grad(objective, list(parameters.values()), allow_unused=True)  # type: ignore[arg-type]
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
    }
