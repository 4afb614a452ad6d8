"""Spans of continuous modalities in a batch, found token by token, and random latents for them."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from motc.ir.model import LatentModality, Model

Grids = dict[str, tuple[int, ...]]
"""Modality to how many patches each of its spans has along each axis."""

GRIDS = {1: ((5,), (2,), (1,)), 2: ((2, 3), (2, 1), (1, 1)), 3: ((1, 2, 3), (2, 1, 2), (1, 1, 1))}
"""By the number of axes, the grids that are drawn."""
Latents = dict[str, Tensor]


def with_spans(
    model: Model, modality_ids: Tensor, document_ids: Tensor | None, generator: torch.Generator
) -> tuple[Tensor, Grids]:
    """Modality ids int64 [B, S] with whole latent spans, and the grid of each modality's spans.

    They are the given ones, but a run of a continuous modality is cut to the length of a span. A run that is too short,
    and what would follow a span of its own modality, become tokens of a modality with a vocabulary that the batch has,
    or padding if it has none.
    """
    shapes: Grids = {}
    for modality in model.latent_modalities():
        grids = GRIDS[len(modality.ends.patch_shape)]
        shapes[modality.name] = grids[int(torch.randint(0, len(grids), (), generator=generator))]
    if not shapes:
        return modality_ids, shapes
    names = [modality.name for modality in model.modalities]
    spoken = [names.index(modality.name) for modality in model.token_modalities()]
    instead = next((index for index in spoken if (modality_ids == index).any()), -1)
    filled = modality_ids.clone()
    for row in range(modality_ids.shape[0]):
        real = [column for column in range(modality_ids.shape[1]) if modality_ids[row, column] >= 0]
        documents = [0 if document_ids is None else int(document_ids[row, column]) for column in real]
        place, before = 0, (-1, -1)
        while place < len(real):
            index = int(modality_ids[row, real[place]])
            length = prod(shapes.get(names[index], ()))
            if index not in spoken:
                fits = documents[place : place + length] == [documents[place]] * length
                if not fits or before == (index, documents[place]):
                    index, length = instead, 1
            for step in range(length):
                filled[row, real[place + step]] = index
            if index >= 0:
                before = (index, documents[place])
            place += length
    return filled, shapes


def span_places(modality_ids: Tensor, document_ids: Tensor | None, index: int) -> list[tuple[int, int]]:
    """Row and column of the first token of each span of a modality, in the order of the batch."""
    places = []
    for row in range(modality_ids.shape[0]):
        before = (-1, -1)
        for column in range(modality_ids.shape[1]):
            modality = int(modality_ids[row, column])
            if modality < 0:
                continue
            here = (modality, 0 if document_ids is None else int(document_ids[row, column]))
            if modality == index and here != before:
                places.append((row, column))
            before = here
    return places


def random_latents(
    model: Model, modality_ids: Tensor, document_ids: Tensor | None, shapes: Grids, generator: torch.Generator
) -> tuple[Latents, Latents, Latents]:
    """Latents, timesteps and noise of every span; none where a modality has no span."""
    latents, timesteps, noise = {}, {}, {}
    for index, modality in enumerate(model.modalities):
        if not isinstance(modality, LatentModality):
            continue
        count = len(span_places(modality_ids, document_ids, index))
        if count == 0:
            continue
        sides = [n * size for n, size in zip(shapes[modality.name], modality.ends.patch_shape, strict=True)]
        shape = (count, modality.ends.channels, *sides)
        latents[modality.name], noise[modality.name] = (
            torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)
        )
        latents[modality.name].requires_grad_()
        timesteps[modality.name] = torch.randint(0, 1000, (count,), generator=generator)
    return latents, timesteps, noise


def random_conditions(model: Model, latents: Latents, generator: torch.Generator) -> dict[str, Latents]:
    """What else is known of every span of the latents, where their modality has a condition of such."""
    conditions = {}
    for modality in model.latent_modalities():
        condition, count = modality.condition, len(latents.get(modality.name, ()))
        if condition is None or not condition.given or not count:
            continue
        given = {}
        if condition.label is not None:
            given["label"] = torch.randint(0, condition.label.rows, (count,), generator=generator)
        if condition.number is not None:
            given["number"] = 1000 * torch.rand(count, generator=generator, dtype=torch.float64)
        if condition.vector is not None:
            shape = (count, condition.vector.size)
            given["vector"] = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        conditions[modality.name] = given
    return conditions
