"""Spans of continuous modalities in a batch, found token by token, and random latents for them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from motc.ir.latent import LatentEnds
from motc.ir.model import Model

Latents = dict[str, Tensor | list[Tensor]]

Grids = dict[str, list[tuple[int, ...]]]
"""Modality to how many patches each of its spans has along each axis, in the order of the batch."""

GRIDS = {1: ((5,), (2,), (1,)), 2: ((2, 3), (2, 1), (1, 1)), 3: ((1, 2, 3), (2, 1, 2), (1, 1, 1))}
"""By the number of axes, the grids that are drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """The grids of spans, and of which modalities they may be of several sizes, as those of linear ends."""

    grids: Grids
    uneven: frozenset[str]


def _grids(ends: LatentEnds) -> tuple[tuple[int, ...], ...]:
    """The grids that are drawn, as large as a table of places allows."""
    most = None if ends.table is None else ends.table.most
    grids = GRIDS[len(ends.patch_shape)]
    if most is None:
        return grids
    fitting = tuple(grid for grid in grids if all(side <= room for side, room in zip(grid, most, strict=True)))
    return fitting or ((1,) * len(most),)


def with_spans(
    model: Model, modality_ids: Tensor, document_ids: Tensor | None, generator: torch.Generator, even: bool = False
) -> tuple[Tensor, Spans]:
    """Modality ids int64 [B, S] with whole latent spans, and the grids of each modality's spans.

    They are the given ones, but a run of a continuous modality is cut to the length of a span. A run that is too short,
    and what would follow a span of its own modality, become tokens of a modality with a vocabulary that the batch has,
    or padding if it has none. Latents of linear ends are of several sizes in every other batch, unless all are `even`.
    """
    sizes: dict[str, tuple[tuple[int, ...], ...]] = {}
    for modality in model.latent_modalities():
        grids = _grids(modality.ends)
        one = int(torch.randint(0, len(grids), (), generator=generator))
        several = not even and modality.ends.unet is None and bool(torch.randint(0, 2, (), generator=generator))
        sizes[modality.name] = grids if several else (grids[one],)
    spans = Spans(grids={name: [] for name in sizes}, uneven=frozenset(n for n, each in sizes.items() if len(each) > 1))
    if not sizes:
        return modality_ids, spans
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
            of = sizes.get(names[index], ((),))
            grid = of[int(torch.randint(0, len(of), (), generator=generator))] if len(of) > 1 else of[0]
            length = prod(grid)
            if index not in spoken:
                fits = documents[place : place + length] == [documents[place]] * length
                if not fits or before == (index, documents[place]):
                    index, length = instead, 1
                elif grid:
                    spans.grids[names[index]].append(grid)
            for step in range(length):
                filled[row, real[place + step]] = index
            if index >= 0:
                before = (index, documents[place])
            place += length
    return filled, spans


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
    model: Model, spans: Spans, generator: torch.Generator, even: bool = False
) -> tuple[Latents, Latents, Latents, Latents]:
    """Latents, timesteps, noise and which are clean of every span; none where a modality has no span.

    Of several sizes they are lists. In every other batch those of linear ends have a timestep for each token, or for
    each frame where they have such, or of these some are clean.
    """
    latents, timesteps, noise, clean = Latents(), Latents(), Latents(), Latents()
    for modality in model.latent_modalities():
        name, grids = modality.name, spans.grids[modality.name]
        if not grids:
            continue
        linear = modality.ends.unet is None
        shapes = [
            (modality.ends.channels, *(n * size for n, size in zip(grid, modality.ends.patch_shape, strict=True)))
            for grid in grids
        ]
        for of in (latents, noise):
            each = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
            of[name] = each if name in spans.uneven else torch.stack(each)
        for x in latents[name] if name in spans.uneven else [latents[name]]:
            x.requires_grad_()  # type: ignore[union-attr]
        for of, draw in ((timesteps, _timesteps), (clean, _roles)):
            counts = [1] * len(grids)
            if linear and not even and bool(torch.randint(0, 2, (), generator=generator)):
                by_frame = len(grids[0]) == 3 and bool(torch.randint(0, 2, (), generator=generator))
                counts = [grid[0] if by_frame else prod(grid) for grid in grids]
            drawn = [draw(number, count, generator) for number, count in enumerate(counts)]
            of[name] = torch.cat(drawn) if sum(counts) == len(grids) else drawn
    return latents, timesteps, noise, clean


def _timesteps(number: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 1000, (count,), generator=generator)


def _roles(number: int, count: int, generator: torch.Generator) -> Tensor:
    """Every third span is clean, or of every third one the first token or frame."""
    return (torch.arange(count) == 0) & (number % 3 == 1)


def random_conditions(model: Model, latents: Latents, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
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
