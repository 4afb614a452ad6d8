"""The laws a generated model obeys, each checked in float64 on random batches.

Against the hand-written reference: outputs, losses and the gradients of all parameters; alone and with its dense twin:
equal parameters give equal outputs, gradients of the blocks add up, one modality alone is the dense model of its tower,
and padding, packing and a layout made beforehand change nothing.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from motc.ir.model import FeatureModality, LatentModality, Model
from motc.ir.names import parameter_shapes
from motc.validate.batches import random_batches, settled, with_ids
from motc.validate.company import company_laws
from motc.validate.config import reference_config, tower_config
from motc.validate.outputs import (
    compare,
    gradients_of,
    latents_of,
    random_like,
    run,
    run_reference,
    tensors_of,
    without_balance,
)
from motc.validate.random_parameters import randomise
from motc.validate.report import GRADIENT_TOLERANCE, OUTPUT_TOLERANCE, Law, Report, deviation, law
from motc.validate.twin import twin_mismatch, twin_prefixes


def validate(sparse: Model, dense: Model, sparse_module: nn.Module, dense_module: nn.Module, seed: int = 0) -> Report:
    """Check a model's module, and that of its dense twin, against every law that applies.

    The modules are left as they are: copies get random parameters, as initial norms and biases would hide mistakes.
    Raises ValueError if a module's parameters are not all float64, and Unsettled where no batch can be compared.
    """
    for module in (sparse_module, dense_module):
        if any(parameter.dtype != torch.float64 for parameter in module.parameters()):
            raise ValueError("validate needs modules in float64: load them with dtype=torch.float64")
    generator = torch.Generator().manual_seed(seed)
    sparse_module, dense_module = copy.deepcopy(sparse_module), copy.deepcopy(dense_module)
    randomise(sparse_module, generator)
    randomise(dense_module, generator)
    names = [parameters_law(sparse, sparse_module), parameters_law(dense, dense_module, prefix="dense twin ")]
    if not all(each.ok for each in names):
        return Report(ok=False, laws=tuple(names), skipped=("all others: names or shapes of parameters are wrong",))
    laws = [
        *names,
        *reference_laws(sparse, sparse_module, generator),
        *reference_laws(dense, dense_module, torch.Generator().manual_seed(seed), prefix="dense twin "),
    ]
    with torch.no_grad():
        laws.append(single_modality_law(sparse, sparse_module, generator))
        laws += company_laws(sparse, sparse_module, generator)
    skipped: tuple[str, ...] = ()
    if reason := twin_mismatch(sparse, dense):
        skipped = (f"twin outputs: {reason}", f"twin gradients: {reason}")
    else:
        laws += twin_laws(sparse, dense, sparse_module, dense_module, generator)
    return Report(ok=all(each.ok for each in laws), laws=tuple(laws), skipped=skipped)


def parameters_law(model: Model, module: nn.Module, prefix: str = "") -> Law:
    """The module has the parameters that the model declares: the deviation counts those of another name or shape."""
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    wrong = set(shapes.items()) ^ set(parameter_shapes(model).items())
    return law(f"{prefix}parameters", [float(len(wrong))], 0.0)


def reference_laws(model: Model, module: nn.Module, generator: torch.Generator, prefix: str = "") -> list[Law]:
    """The same logits, losses and gradients as the boolean-mask reference with the same parameters.

    Of the model, which has no prefix, also that a layout made beforehand changes nothing: given positions, documents in
    rows of their own and in shared ones, and no token at all.
    """
    config, tensors, parameters = reference_config(model), tensors_of(module), dict(module.named_parameters())
    outputs, gradients, given_layout = [], [], []
    batches = random_batches(model, generator)
    _, placed, packed, _, empty, *_, uneven = batches
    for drawn in batches:
        batch = settled(model, tensors, drawn, generator)
        actual, expected = run(module, batch), run_reference(config, tensors, batch)
        outputs += compare(actual, expected)
        weights = random_like(expected, generator)
        sources = {**parameters, **latents_of(batch)}
        gradients.append(deviation(gradients_of(actual, weights, sources), gradients_of(expected, weights, sources)))
        if not prefix and any(drawn is each for each in (placed, packed, empty, uneven)):
            layout = module.layout(batch.modality_ids, batch.document_ids)  # type: ignore[operator]
            with torch.no_grad():
                given_layout += compare(run(module, batch, layout), actual)
    return [
        law(f"{prefix}reference outputs", outputs, OUTPUT_TOLERANCE),
        law(f"{prefix}reference gradients", gradients, GRADIENT_TOLERANCE),
        *([] if prefix else [law("given layout", given_layout, OUTPUT_TOLERANCE)]),
    ]


def twin_laws(
    sparse: Model, dense: Model, sparse_module: nn.Module, dense_module: nn.Module, generator: torch.Generator
) -> list[Law]:
    """With the dense twin's parameters in every block: its outputs; block gradients add up to its gradients.

    Either was compared with its reference: batches in which most meets will do.
    """
    ours, theirs = dict(sparse_module.named_parameters()), dict(dense_module.named_parameters())
    prefixes = twin_prefixes(sparse, dense)
    twins = {name: prefixes[stem] + "." + kind for name in ours for stem, _, kind in [name.rpartition(".")]}
    twin_tensors, tensors = tensors_of(dense_module), tensors_of(sparse_module)
    with torch.no_grad():
        for name, tensor in tensors.items():
            stem, _, kind = name.rpartition(".")
            tensor.copy_(twin_tensors[f"{prefixes[stem]}.{kind}"])
    outputs, gradients = [], []
    mixed, _, packed, _, _, *absent, uneven = random_batches(sparse, generator)
    for batch in (mixed, packed, *absent[:1], uneven):
        batch = settled(sparse, tensors, batch, generator)
        actual, expected = (without_balance(run(each, batch)) for each in (sparse_module, dense_module))
        outputs += compare(actual, expected)
        weights = random_like(expected, generator)
        sums = {twin: torch.zeros_like(parameter) for twin, parameter in theirs.items()}
        for name, gradient in gradients_of(actual, weights, ours).items():
            sums[twins[name]] += gradient
        gradients.append(deviation(sums, gradients_of(expected, weights, theirs)))
    return [
        law("twin outputs", outputs, OUTPUT_TOLERANCE),
        law("twin gradients", gradients, GRADIENT_TOLERANCE),
    ]


def single_modality_law(model: Model, module: nn.Module, generator: torch.Generator) -> Law:
    """A batch of one modality gives what a dense model with that modality's parameters gives."""
    parameters, deviations = tensors_of(module), []
    for index, modality in enumerate(model.modalities):
        modality_ids = torch.full((2, 9), index)
        modality_ids[1, 6:] = -1
        batch = settled(model, parameters, with_ids(model, modality_ids, generator), generator)
        alone = replace(batch, modality_ids=batch.modality_ids.clamp(max=0))
        logits, losses, predictions = run(module, batch)
        expected, expected_losses, expected_predictions = run_reference(
            tower_config(model, modality.name), parameters, alone
        )
        deviations.append(deviation(predictions, expected_predictions))
        if isinstance(modality, LatentModality | FeatureModality):
            logits, expected = {}, {}
        if not isinstance(expected, Tensor):
            assert not isinstance(logits, Tensor), "own vocabularies give a mapping"
            logits = {modality.name: logits[modality.name]} if expected else {}
        deviations.append(deviation(logits, expected))
        deviations.append(deviation({key: losses[key] for key in expected_losses}, expected_losses))  # type: ignore[index]
    return law("single modality", deviations, OUTPUT_TOLERANCE)
