"""Random grids of spans whose tokens are placed in one, and the positions that follow from them."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor

from motc.ir.model import LatentModality, Model
from motc.reference import positions_by_rule
from motc.validate.config import position_rules
from motc.validate.latent_spans import Grids


def random_placing(
    model: Model, modality_ids: Tensor, document_ids: Tensor | None, spans: Grids, generator: torch.Generator
) -> Tensor | None:
    """Positions int64 [B, S, axes] where tokens with ids stand in grids, which are drawn; None where none do.

    `spans` are the grids of latents.
    """
    drawn = [
        index
        for index, modality in enumerate(model.modalities)
        if modality.positions and modality.positions.takes_grid and not isinstance(modality, LatentModality)
    ]
    if not drawn:
        return None
    axes, names = model.position_axes, [modality.name for modality in model.modalities]
    grids: dict[int, list[tuple[int, ...]]] = {index: [] for index in range(len(names))}
    of_latents = {name: iter(each) for name, each in spans.items()}
    for row, modalities in enumerate(modality_ids.tolist()):
        documents = [0] * len(modalities) if document_ids is None else document_ids[row].tolist()
        tokens = [(m, d) for m, d in zip(modalities, documents, strict=True) if m >= 0]
        for (modality, _), run in groupby(tokens):
            count = len(list(run))
            sides = [side for side in range(1, count + 1) if count % side == 0]
            side = sides[int(torch.randint(0, len(sides), (), generator=generator))]
            shape = (side, count // side) if axes > 1 else (count,)
            grids[modality].append(next(of_latents[names[modality]]) if names[modality] in spans else shape)
    placed = positions_by_rule(modality_ids, document_ids, position_rules(model), model.first_position, axes, grids)
    return placed[..., 0] if axes == 1 else placed
