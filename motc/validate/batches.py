"""Random batches that visit the corners: padding anywhere, packed documents, absent modalities, given positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from motc.ir.model import FeatureModality, Model
from motc.reference import Batch, Trace, reference_forward, reference_loss
from motc.validate.config import reference_config
from motc.validate.grids import random_placing
from motc.validate.latent_spans import random_conditions, random_latents, with_spans

TRIES = 200
"""How many batches are drawn until none has an expert chosen by a hair."""


def random_batches(model: Model, generator: torch.Generator, *, even: bool = False) -> tuple[Batch, ...]:
    """Batches for comparing a module with the reference.

    `even` ones have latents of one size, with a timestep a span, as a program takes them.
    """
    count = len(model.modalities)
    mixed = random_modalities(count, 2, 12, generator)
    padded = random_modalities(count, 4, 14, generator)
    padded[0, 9:] = -1
    padded[1, :3] = -1
    padded[1, 6:8] = -1
    padded[2] = -1
    positions = torch.randint(0, 40, mixed.shape, generator=generator)
    axes = (model.position_axes,) if model.position_axes > 1 else ()
    documents = (torch.rand(padded.shape, generator=generator) < 0.3).long().cumsum(1)
    batches = [
        with_ids(model, mixed, generator, even=even),
        with_ids(model, mixed, generator, position_ids=positions, even=even),
        with_ids(model, padded, generator, placed(padded, axes, generator), documents, even=even),
        with_ids(model, random_modalities(count, 1, 1, generator), generator, even=even),
        with_ids(model, torch.full((1, 3), -1), generator, even=even),
    ]
    for absent in range(count if count > 1 else 0):
        others = random_modalities(count - 1, 2, 7, generator)
        others = others + (others >= absent).long()
        others[1, 5:] = -1
        batches.append(with_ids(model, others, generator, even=even))
    uneven = (torch.arange(padded.shape[1]) - 8).clamp(min=0).expand_as(padded)  # too uneven for a row to each document
    batches.append(with_targets(model, with_ids(model, padded, generator, document_ids=uneven, even=even), generator))
    return tuple(batches)


def placed(modality_ids: Tensor, axes: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
    """Random positions on several axes, int64 [B, S, axes]; None where there is one axis."""
    shape = (*modality_ids.shape, *axes)
    return torch.randint(0, 40, shape, generator=generator) if axes else None


def with_targets(model: Model, batch: Batch, generator: torch.Generator) -> Batch:
    """The batch with labels other than its ids, some of them none, and with weights, some of them 0.

    Where there is no token, they are what no vocabulary has, and no number.
    """
    size = min((vocabulary(model, modality.name) for modality in model.token_modalities()), default=1)
    names = [modality.name for modality in model.modalities]
    real = batch.modality_ids >= 0
    for modality in model.continuous_modalities():
        real &= batch.modality_ids != names.index(modality.name)
    none, weights = torch.rand((2, *real.shape), generator=generator, dtype=torch.float64)
    labels = torch.where(none < 0.2, -100, (batch.input_ids + 1) % size)
    weights = torch.where(weights < 0.2, 0.0, 2 * weights)
    return replace(batch, labels=torch.where(real, labels, 2**40), weights=torch.where(real, weights, torch.nan))


def random_modalities(count: int, rows: int, length: int, generator: torch.Generator) -> Tensor:
    """Modality ids in [0, count)."""
    return torch.randint(0, count, (rows, length), generator=generator)


def with_ids(
    model: Model,
    modality_ids: Tensor,
    generator: torch.Generator,
    position_ids: Tensor | None = None,
    document_ids: Tensor | None = None,
    *,
    even: bool = False,
) -> Batch:
    """A batch of these modalities with random input ids, each within its modality's vocabulary.

    Where there are latents, the modalities are changed so that each span has the tokens of one. Latents and features
    are float64 and take gradients.
    """
    modality_ids, spans = with_spans(model, modality_ids, document_ids, generator, even)
    if position_ids is None:
        position_ids = random_placing(model, modality_ids, document_ids, spans.grids, generator)
    known = [vocabulary(model, modality.name) for modality in model.token_modalities()]
    continuous = {modality.name for modality in model.continuous_modalities()}
    vocabularies = [0 if m.name in continuous else vocabulary(model, m.name) for m in model.modalities]
    sizes = torch.tensor([*vocabularies, min(known, default=0)])[modality_ids]  # padding, -1, meets the last
    fractions = torch.rand(modality_ids.shape, generator=generator, dtype=torch.float64)
    latents, timesteps, noise, clean = random_latents(model, spans, generator, even)
    return Batch(
        input_ids=torch.where(sizes == 0, -7, (fractions * sizes).long()),  # where there is no id it is not read
        modality_ids=modality_ids,
        position_ids=position_ids,
        document_ids=document_ids,
        latents=latents,
        timesteps=timesteps,
        noise=noise,
        clean=clean,
        features=random_features(model, modality_ids, generator),
        conditions=random_conditions(model, latents, generator),
    )


def random_features(model: Model, modality_ids: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """What is given for each token of a modality of features; none where it has no token."""
    features = {}
    for index, modality in enumerate(model.modalities):
        count = int((modality_ids == index).sum())
        if isinstance(modality, FeatureModality) and count:
            shape = (count, *modality.projector.given)
            features[modality.name] = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    return features


def vocabulary(model: Model, modality: str) -> int:
    """How many ids a modality's tokens have."""
    own = model.modality(modality).vocab
    size = model.vocab if own is None else own
    assert size is not None, f"{modality} has no vocabulary"
    return size


class Unsettled(Exception):
    """Every batch that was drawn has an expert chosen by a hair, which rounding could turn: nothing can be compared."""


def settled(model: Model, parameters: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> Batch:
    """The batch, ids and latents drawn again until no expert is chosen by a hair: rounding then changes no choice.

    That is asked of the forward and of the loss, which noises latents anew and so may choose otherwise. Raises
    Unsettled after TRIES batches.
    """
    if not model.routings:
        return batch
    config = reference_config(model)
    for _ in range(TRIES):
        trace = Trace()
        with torch.no_grad():
            reference_forward(config, parameters, batch, trace)
            if batch.latents:
                reference_loss(config, parameters, batch, trace)
        if trace.hairs == 0:
            return batch
        other = with_ids(model, batch.modality_ids, generator, batch.position_ids, batch.document_ids)
        batch = other if batch.labels is None else with_targets(model, other, generator)
    raise Unsettled(
        f"in each of {TRIES} batches an expert is chosen by so little that rounding may decide: nothing can be compared"
    )
