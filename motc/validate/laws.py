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

from motc.ir.model import LatentModality, Model
from motc.reference import Batch
from motc.validate.batches import random_batches, random_modalities, settled, with_ids
from motc.validate.config import parameter_shapes, reference_config, tower_config
from motc.validate.outputs import (
    compare,
    gradients_of,
    latents_of,
    random_like,
    run,
    run_forward,
    run_reference,
    without_balance,
)
from motc.validate.report import GRADIENT_TOLERANCE, OUTPUT_TOLERANCE, Law, Report, Tensors, deviation, law
from motc.validate.spans import span_places
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
    if not all(found.ok for found in names):
        return Report(ok=False, laws=tuple(names), skipped=("all others: names or shapes of parameters are wrong",))
    laws = [
        *names,
        *reference_laws(sparse, sparse_module, generator),
        *reference_laws(dense, dense_module, generator, prefix="dense twin "),
    ]
    with torch.no_grad():
        laws.append(single_modality_law(sparse, sparse_module, generator))
        if chooses_tokens(sparse):
            laws.append(padded_batch_law(sparse, sparse_module, generator))
            laws.append(packed_batch_law(sparse, sparse_module, generator))
        else:
            laws.append(padding_law(sparse, sparse_module, generator))
            laws.append(documents_law(sparse, sparse_module, generator))
        laws.append(layout_law(sparse, sparse_module, generator))
    skipped: tuple[str, ...] = ()
    if reason := twin_mismatch(sparse, dense):
        skipped = (f"twin outputs: {reason}", f"twin gradients: {reason}")
    else:
        laws += twin_laws(sparse, dense, sparse_module, dense_module, generator)
    return Report(ok=all(found.ok for found in laws), laws=tuple(laws), skipped=skipped)


def parameters_law(model: Model, module: nn.Module, prefix: str = "") -> Law:
    """The module has the parameters, by name and shape, that the model declares; the deviation counts the others."""
    found = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    wrong = set(found.items()) ^ set(parameter_shapes(model).items())
    return law(f"{prefix}parameters", [float(len(wrong))], 0.0)


def reference_laws(model: Model, module: nn.Module, generator: torch.Generator, prefix: str = "") -> list[Law]:
    """The same logits, losses and gradients as the boolean-mask reference with the same parameters."""
    config, parameters = reference_config(model), dict(module.named_parameters())
    outputs, gradients = [], []
    for batch in random_batches(model, generator):
        batch = settled(model, parameters, batch, generator)
        found, expected = run(module, batch), run_reference(config, parameters, batch)
        outputs += compare(found, expected)
        weights = random_like(expected, generator)
        sources = {**parameters, **latents_of(batch)}
        gradients.append(deviation(gradients_of(found, weights, sources), gradients_of(expected, weights, sources)))
    return [
        law(f"{prefix}reference outputs", outputs, OUTPUT_TOLERANCE),
        law(f"{prefix}reference gradients", gradients, GRADIENT_TOLERANCE),
    ]


def twin_laws(
    sparse: Model, dense: Model, sparse_module: nn.Module, dense_module: nn.Module, generator: torch.Generator
) -> list[Law]:
    """With the dense twin's parameters in every block: its outputs; block gradients add up to its gradients."""
    ours, theirs = dict(sparse_module.named_parameters()), dict(dense_module.named_parameters())
    prefixes = twin_prefixes(sparse, dense)
    twins = {name: prefixes[stem] + "." + kind for name in ours for stem, _, kind in [name.rpartition(".")]}
    with torch.no_grad():
        for name, twin in twins.items():
            ours[name].copy_(theirs[twin])
    outputs, gradients = [], []
    for batch in random_batches(sparse, generator):
        batch = settled(sparse, ours, batch, generator)
        found, expected = (without_balance(run(each, batch)) for each in (sparse_module, dense_module))
        outputs += compare(found, expected)
        weights = random_like(expected, generator)
        sums = {twin: torch.zeros_like(parameter) for twin, parameter in theirs.items()}
        for name, gradient in gradients_of(found, weights, ours).items():
            sums[twins[name]] += gradient
        gradients.append(deviation(sums, gradients_of(expected, weights, theirs)))
    return [
        law("twin outputs", outputs, OUTPUT_TOLERANCE),
        law("twin gradients", gradients, GRADIENT_TOLERANCE),
    ]


def single_modality_law(model: Model, module: nn.Module, generator: torch.Generator) -> Law:
    """A batch of one modality only is what the dense model made of that modality's tower says."""
    parameters, deviations = dict(module.named_parameters()), []
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
        if isinstance(modality, LatentModality):
            logits, expected = {}, {}
        if not isinstance(expected, Tensor):
            assert not isinstance(logits, Tensor), "own vocabularies give a mapping"
            logits = {modality.name: logits[modality.name]} if expected else {}
        deviations.append(deviation(logits, expected))
        deviations.append(deviation({key: losses[key] for key in expected_losses}, expected_losses))  # type: ignore[index]
    return law("single modality", deviations, OUTPUT_TOLERANCE)


def padding_law(model: Model, module: nn.Module, generator: torch.Generator) -> Law:
    """A row says the same with padding after it, beside longer rows, as it does alone; padding's logits are zero."""
    lengths = (5, 11, 1, 8)
    modality_ids = random_modalities(len(model.modalities), len(lengths), max(lengths) + 2, generator)
    for row, length in enumerate(lengths):
        modality_ids[row, length:] = -1
    batch = settled(model, dict(module.named_parameters()), with_ids(model, modality_ids, generator), generator)
    whole, deviations = run_forward(module, batch), []
    for row, length in enumerate(lengths):
        deviations += part_alone(model, module, batch, whole, row, 0, length)
        rests = [x[row, length:] for x in by_name(whole[0]).values()]
        deviations += [deviation(rest, torch.zeros_like(rest)) for rest in rests]
    return law("padding", deviations, OUTPUT_TOLERANCE)


def documents_law(model: Model, module: nn.Module, generator: torch.Generator) -> Law:
    """Documents packed into a row say the same as each by itself."""
    lengths = (4, 1, 6, 3)
    document_ids = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).repeat(2, 1)
    modality_ids = random_modalities(len(model.modalities), 2, sum(lengths), generator)
    batch = with_ids(model, modality_ids, generator, document_ids=document_ids)
    batch = settled(model, dict(module.named_parameters()), batch, generator)
    whole, deviations = run_forward(module, batch), []
    for row in range(2):
        for index, length in enumerate(lengths):
            first = sum(lengths[:index])
            deviations += part_alone(model, module, batch, whole, row, first, first + length)
    return law("documents", deviations, OUTPUT_TOLERANCE)


def chooses_tokens(model: Model) -> bool:
    """Whether a token's result depends on all others in the batch: experts choose among them."""
    return any(moe.routing == "expert_choice" for moe in model.moe.values())


def padded_batch_law(model: Model, module: nn.Module, generator: torch.Generator) -> Law:
    """A batch says the same with padding around it; padding's logits are zero."""
    before, after = 3, 2
    modality_ids = random_modalities(len(model.modalities), 4, 11, generator)
    modality_ids[1, 5:] = -1
    modality_ids[2, 1:] = -1
    batch = settled(model, dict(module.named_parameters()), with_ids(model, modality_ids, generator), generator)
    wider = torch.nn.functional.pad(batch.modality_ids, (before, after), value=-1)
    positions = (torch.arange(wider.shape[1]) - before).clamp(min=0).repeat(len(wider), 1)
    ids = torch.nn.functional.pad(batch.input_ids, (before, after))
    padded = replace(batch, input_ids=ids, modality_ids=wider, position_ids=positions)
    plain, deviations = logits_of(module, batch), []
    for key, found in logits_of(module, padded).items():
        deviations.append(deviation(found[:, before:-after], plain[key]))
        deviations += [
            deviation(rest, torch.zeros_like(rest)) for rest in (found[wider < 0], plain[key][batch.modality_ids < 0])
        ]
    return law("padding", deviations, OUTPUT_TOLERANCE)


def packed_batch_law(model: Model, module: nn.Module, generator: torch.Generator) -> Law:
    """Documents packed into rows say the same as each in a row of its own."""
    lengths = (4, 1, 6, 3)
    document_ids = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).repeat(2, 1)
    modality_ids = random_modalities(len(model.modalities), 2, sum(lengths), generator)
    packed = with_ids(model, modality_ids, generator, document_ids=document_ids)
    packed = settled(model, dict(module.named_parameters()), packed, generator)
    apart = torch.full((2 * len(lengths), max(lengths)), -1)
    real = torch.arange(max(lengths)) < torch.tensor(lengths).repeat(2)[:, None]
    ids = torch.zeros_like(apart)
    apart[real], ids[real] = packed.modality_ids.flatten(), packed.input_ids.flatten()
    unpacked = logits_of(module, replace(packed, input_ids=ids, modality_ids=apart, document_ids=None))
    deviations = [
        deviation(found.flatten(0, 1), unpacked[key][real]) for key, found in logits_of(module, packed).items()
    ]
    return law("documents", deviations, OUTPUT_TOLERANCE)


def layout_law(model: Model, module: nn.Module, generator: torch.Generator) -> Law:
    """A layout made beforehand changes nothing."""
    deviations = []
    for batch in random_batches(model, generator):
        layout = module.layout(batch.modality_ids, batch.document_ids)  # type: ignore[operator]
        deviations += compare(run(module, batch, layout), run(module, batch))
    return law("given layout", deviations, OUTPUT_TOLERANCE)


def logits_of(module: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Logits by modality, or under one name where a vocabulary is shared."""
    return by_name(run_forward(module, batch)[0])


def by_name(logits: Tensors) -> dict[str, Tensor]:
    """Logits by modality; of a shared vocabulary under one name."""
    return {"": logits} if isinstance(logits, Tensor) else dict(logits)


def cut(model: Model, batch: Batch, row: int, first: int, end: int) -> Batch:
    """Part of one row as a batch of its own, with positions from zero and one document."""
    kept = {name: spans_in(model, batch, name, row, first, end) for name in batch.latents}
    return Batch(
        input_ids=batch.input_ids[row : row + 1, first:end],
        modality_ids=batch.modality_ids[row : row + 1, first:end],
        latents={name: batch.latents[name][spans] for name, spans in kept.items() if spans},
        timesteps={name: batch.timesteps[name][spans] for name, spans in kept.items() if spans},
        noise={name: batch.noise[name][spans] for name, spans in kept.items() if spans},
    )


def spans_in(model: Model, batch: Batch, name: str, row: int, first: int, end: int) -> list[int]:
    """Which of a modality's spans lie in part of one row."""
    index = [modality.name for modality in model.modalities].index(name)
    places = span_places(batch.modality_ids, batch.document_ids, index)
    return [number for number, (at, column) in enumerate(places) if at == row and first <= column < end]


def part_alone(
    model: Model,
    module: nn.Module,
    batch: Batch,
    whole: tuple[Tensors, dict[str, Tensor]],
    row: int,
    first: int,
    end: int,
) -> list[float]:
    """How the logits and predictions of a part by itself deviate from those of the whole batch."""
    (logits, predictions), (alone, predicted) = whole, run_forward(module, cut(model, batch, row, first, end))
    found, expected = by_name(alone), by_name(logits)
    spans = {name: spans_in(model, batch, name, row, first, end) for name in predicted}
    return [
        *(deviation(expected[key][row : row + 1, first:end], found[key]) for key in found),
        *(deviation(predictions[name][spans[name]], predicted[name]) for name in predicted),
    ]


def randomise(module: nn.Module, generator: torch.Generator) -> None:
    """Random parameters of a size that keeps activations near one: scales near 1, matrices by their fan-in."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if "norm" in name and name.endswith(".weight"):
                parameter.copy_(1 + 0.3 * noise)
            elif parameter.ndim == 4:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            elif parameter.ndim >= 2 and "embedding" not in name and "norm" not in name:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)
            else:
                parameter.copy_(0.5 * noise)
