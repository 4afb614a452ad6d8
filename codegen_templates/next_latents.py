"""Latents that rows are to have next: noise, denoised against what these rows have seen."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .cache import NewTokens
from .constants import on_device
from .denoised import unnoised
from .generate import Decoding, layout_of_step
from .latents import rank_of
from .masks import visibility
from .tokens import in_last_document


def latents_kept(
    model: Any, latents: Mapping[str, Tensor], modality_ids: Tensor, document_ids: Tensor | None
) -> Mapping[str, Tensor]:
    """The latents of each row's last document. Raises ValueError where they do not fit the batch."""
    if document_ids is None:
        return latents
    patches = model.encode(model.layout(modality_ids, document_ids), latents, unnoised(latents))
    kept = in_last_document(modality_ids, document_ids).flatten()
    of_rows = {}
    for name, x in latents.items():
        rank = rank_of(modality_ids, model.modalities.index(name))
        length = (patches[name].vectors.shape[0] - 1) // max(1, x.shape[0])
        of_rows[name] = x[(rank[kept & (rank >= 0)] // max(1, length)).unique().to(x.device)]
    return of_rows


class Delimiters(NamedTuple):
    """The tokens right before latents and right after them, of one modality, which are in a run with them."""

    begin: int
    end: int
    modality: int


class NextLatents:
    """Latents that some rows are to have next: where their patches stand, and a cache of these rows."""

    def __init__(
        self,
        decoding: Decoding,
        grids: Mapping[str, tuple[int, ...]],
        rows: list[int],
        delimiters: Delimiters | None = None,
    ) -> None:
        """`grids`: how many patches each row has, along each axis, of which modalities, one after the other.

        `delimiters` stand around them, and are computed with them; the first is what rows have seen last.
        """
        model = decoding.model
        runs = [(model.modalities.index(name), prod(grid)) for name, grid in grids.items()]
        starts = [decoding.rows[row].length - (delimiters is not None) for row in rows]
        ids = [0] * sum(n for _, n in runs)
        if delimiters is not None:
            runs = [(delimiters.modality, 1), *runs, (delimiters.modality, 1)]
            ids = [delimiters.begin, *ids, delimiters.end]
        device, count = decoding.known.device, sum(n for _, n in runs)
        length = max(starts) + count
        modality_ids = on_device([modality for modality, n in runs for _ in range(n)], device)
        for row, start in zip(rows, starts, strict=True):
            decoding.rows[row].check_next()
            decoding.known[row, start : start + count] = modality_ids
        each = torch.arange(len(rows), device=device)[:, None]
        slots = on_device(starts, device)[:, None] + torch.arange(count, device=device)
        positions = slots + on_device([decoding.rows[row].offset for row in rows], device)[:, None]
        before = [decoding.rows[row].placed for row in rows]
        if model.position_rules:
            each_patch = [
                (model.modalities.index(name), grid) for name, grid in grids.items() for _ in range(prod(grid))
            ]
            places = [[decoding.rows[row].place(*patch) for patch in each_patch] for row in rows]
            if delimiters is not None:
                after = [decoding.rows[row].place_behind(delimiters.modality) for row in rows]
                places = [[b, *inner, a] for b, inner, a in zip(before, places, after, strict=True)]
            positions = on_device(places, device)
        elif delimiters is not None:  # whose first one has the position that it has been given
            axes = [each if isinstance(each, list) else [each] * model.position_axes for each in before]
            positions = positions[:, :, None].repeat(1, 1, model.position_axes)
            positions[:, 0] = on_device(axes, device)
            positions = positions.squeeze(2) if model.position_axes == 1 else positions
        known = decoding.known[rows, :length]
        seen = [visibility(mask, known, None)[each, slots] for mask in model.masks]
        masks = [None if bool(visible.all()) else visible[:, None] for visible in seen]
        self.model, self.decoding, self.rows = model, decoding, rows
        self.ids = on_device(ids, device).expand_as(slots)  # of patches they may be anything
        self.modality_ids = modality_ids.expand_as(slots).contiguous()
        modalities = {modality for modality, _ in runs}
        self.layout = layout_of_step(model, decoding.layout, modalities, self.modality_ids, positions, masks)
        self.cache = decoding.cache.of_rows(rows, length)
        self.cache.step = NewTokens(each, slots, length)

    def predicted(self, latents: Mapping[str, Tensor], timesteps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the model predicts of latents [n, channels, ...] at timesteps [n]; they are kept as seen."""
        given = {"latents": latents, "timesteps": timesteps}
        output = self.model(self.ids, self.modality_ids, layout=self.layout, cache=self.cache, **given)
        predictions: dict[str, Tensor] = output.predictions
        return predictions

    def keep(self, latents: Mapping[str, Tensor]) -> None:
        """Let the rows have seen these latents, clean ones, and go on after them."""
        self.predicted(latents, unnoised(latents))
        self.decoding.cache.put_rows(self.rows, self.cache)
