"""The laws of padding and packing: padding and other documents in a batch change nothing that is said of a token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from motc.ir.model import Model
from motc.reference import Batch
from motc.reference.batch import Several
from motc.validate.batches import random_modalities, settled, with_ids
from motc.validate.latent_spans import span_places
from motc.validate.outputs import joined, run_forward, tensors_of
from motc.validate.report import OUTPUT_TOLERANCE, Law, Tensors, deviation, law

DOCUMENTS = (4, 1, 6, 3)
"""The lengths of the documents that are packed into each row."""


def company_laws(model: Model, module: nn.Module, generator: torch.Generator) -> list[Law]:
    """The laws of padding and of packing, of each row by itself.

    Where experts choose their tokens they choose among all of a batch: then it is whole batches that are compared.
    """
    if "expert_choice" in model.routings:
        return [padded_batch_law(model, module, generator), packed_batch_law(model, module, generator)]
    return [padding_law(model, module, generator), documents_law(model, module, generator)]


def padding_law(model: Model, module: nn.Module, generator: torch.Generator) -> Law:
    """A row says the same with padding after it, beside longer rows, as it does alone; padding's logits are zero."""
    lengths = (5, 11, 1, 8)

    def drawn() -> Batch:
        modality_ids = random_modalities(len(model.modalities), len(lengths), max(lengths) + 2, generator)
        for row, length in enumerate(lengths):
            modality_ids[row, length:] = -1
        return with_ids(model, modality_ids, generator)

    batch = settled(model, tensors_of(module), with_results(model, drawn), generator)
    whole, deviations = run_forward(module, batch), []
    for row, length in enumerate(lengths):
        deviations += part_alone(model, module, batch, whole, row, 0, length)
        rests = [x[row, length:] for x in by_name(whole[0]).values()]
        deviations += [deviation(rest, torch.zeros_like(rest)) for rest in rests]
    return law("padding", deviations, OUTPUT_TOLERANCE)


def documents_law(model: Model, module: nn.Module, generator: torch.Generator) -> Law:
    """Documents packed into a row say the same as each by itself."""
    batch = packed_batch(model, module, generator)
    whole, deviations = run_forward(module, batch), []
    for row in range(len(batch.modality_ids)):
        for index, length in enumerate(DOCUMENTS):
            first = sum(DOCUMENTS[:index])
            deviations += part_alone(model, module, batch, whole, row, first, first + length)
    return law("documents", deviations, OUTPUT_TOLERANCE)


def padded_batch_law(model: Model, module: nn.Module, generator: torch.Generator) -> Law:
    """A batch says the same with padding around it; padding's logits are zero."""
    before, after = 3, 2
    modality_ids = random_modalities(len(model.modalities), 4, 11, generator)
    modality_ids[1, 5:] = -1
    modality_ids[2, 1:] = -1
    batch = settled(model, tensors_of(module), with_ids(model, modality_ids, generator), generator)
    wider = torch.nn.functional.pad(batch.modality_ids, (before, after), value=-1)
    positions: Tensor | None = (torch.arange(wider.shape[1]) - before).clamp(min=0).repeat(len(wider), 1)
    if model.places_by_rule:  # which counts no padding
        given = batch.position_ids
        positions = (
            None
            if given is None
            else torch.cat((given[:, :1].expand(-1, before, *given.shape[2:]), given, given[:, -after:]), 1)
        )
    ids = torch.nn.functional.pad(batch.input_ids, (before, after))
    padded = replace(batch, input_ids=ids, modality_ids=wider, position_ids=positions)
    plain, deviations = logits_of(module, batch), []
    for key, logits in logits_of(module, padded).items():
        deviations.append(deviation(logits[:, before:-after], plain[key]))
        deviations += [
            deviation(rest, torch.zeros_like(rest)) for rest in (logits[wider < 0], plain[key][batch.modality_ids < 0])
        ]
    return law("padding", deviations, OUTPUT_TOLERANCE)


def packed_batch_law(model: Model, module: nn.Module, generator: torch.Generator) -> Law:
    """Documents packed into rows say the same as each in a row of its own."""
    packed = packed_batch(model, module, generator)
    lengths = torch.tensor(DOCUMENTS).repeat(len(packed.modality_ids))
    real = torch.arange(max(DOCUMENTS)) < lengths[:, None]
    apart = torch.full(real.shape, -1)
    ids = torch.zeros_like(apart)
    apart[real], ids[real] = packed.modality_ids.flatten(), packed.input_ids.flatten()
    positions = packed.position_ids
    if positions is not None:
        placed = positions.new_zeros(*apart.shape, *positions.shape[2:])
        placed[real] = positions.flatten(0, 1)
        positions = placed
    alone = replace(packed, input_ids=ids, modality_ids=apart, document_ids=None, position_ids=positions)
    unpacked = logits_of(module, alone)
    deviations = [
        deviation(logits.flatten(0, 1), unpacked[key][real]) for key, logits in logits_of(module, packed).items()
    ]
    return law("documents", deviations, OUTPUT_TOLERANCE)


def packed_batch(model: Model, module: nn.Module, generator: torch.Generator) -> Batch:
    """Two rows, each of documents as long as DOCUMENTS says."""
    document_ids = torch.repeat_interleave(torch.arange(len(DOCUMENTS)), torch.tensor(DOCUMENTS)).repeat(2, 1)

    def drawn() -> Batch:
        modality_ids = random_modalities(len(model.modalities), 2, sum(DOCUMENTS), generator)
        return with_ids(model, modality_ids, generator, document_ids=document_ids)

    return settled(model, tensors_of(module), with_results(model, drawn), generator)


def with_results(model: Model, drawn: Callable[[], Batch]) -> Batch:
    """A drawn batch of which a model says something: where it has no logits, one with latents."""
    batch = drawn()
    while not model.speaks and not batch.latents:
        batch = drawn()
    return batch


def logits_of(module: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Logits by modality, or under one name where a vocabulary is shared."""
    return by_name(run_forward(module, batch)[0])


def by_name(logits: Tensors) -> dict[str, Tensor]:
    """Logits by modality; of a shared vocabulary under one name."""
    return {"": logits} if isinstance(logits, Tensor) else dict(logits)


def part_alone(
    model: Model,
    module: nn.Module,
    batch: Batch,
    whole: tuple[Tensors, dict[str, Several]],
    row: int,
    first: int,
    end: int,
) -> list[float]:
    """How the logits and predictions of a part by itself deviate from those of the whole batch."""
    (logits, predictions), (alone, predicted) = whole, run_forward(module, cut(model, batch, row, first, end))
    actual, expected = by_name(alone), by_name(logits)
    spans = {name: spans_in(model, batch, name, row, first, end) for name in predicted}
    return [
        *(deviation(expected[key][row : row + 1, first:end], actual[key]) for key in actual),
        *(deviation(joined(chosen(predictions[name], spans[name])), joined(predicted[name])) for name in predicted),
    ]


def cut(model: Model, batch: Batch, row: int, first: int, end: int) -> Batch:
    """Part of one row as a batch of its own, one document, with positions from zero unless the batch gives them."""
    kept = {name: spans_in(model, batch, name, row, first, end) for name in batch.latents}
    return Batch(
        input_ids=batch.input_ids[row : row + 1, first:end],
        modality_ids=batch.modality_ids[row : row + 1, first:end],
        position_ids=None if batch.position_ids is None else batch.position_ids[row : row + 1, first:end],
        latents={name: chosen(batch.latents[name], spans) for name, spans in kept.items() if spans},
        timesteps={name: chosen(batch.timesteps[name], spans) for name, spans in kept.items() if spans},
        noise={name: chosen(batch.noise[name], spans) for name, spans in kept.items() if spans},
        clean={name: chosen(batch.clean[name], spans) for name, spans in kept.items() if spans},
        features=features_in(model, batch, row, first, end),
        conditions={
            name: {part: value[kept[name]] for part, value in given.items()}
            for name, given in batch.conditions.items()
            if kept.get(name)
        },
    )


def chosen(values: Several, spans: list[int]) -> Several:
    """Those of some spans."""
    return [values[span] for span in spans] if isinstance(values, list) else values[spans]


def features_in(model: Model, batch: Batch, row: int, first: int, end: int) -> dict[str, Tensor]:
    """The features of the tokens in part of one row."""
    here = torch.zeros_like(batch.modality_ids, dtype=torch.bool)
    here[row, first:end] = True
    features = {}
    for name, vectors in batch.features.items():
        of_batch = here[batch.modality_ids == model.names.index(name)]
        if of_batch.any():
            features[name] = vectors[of_batch]
    return features


def spans_in(model: Model, batch: Batch, name: str, row: int, first: int, end: int) -> list[int]:
    """Which of a modality's spans lie in part of one row."""
    index = [modality.name for modality in model.modalities].index(name)
    places = span_places(batch.modality_ids, batch.document_ids, index)
    return [number for number, (at, column) in enumerate(places) if at == row and first <= column < end]
