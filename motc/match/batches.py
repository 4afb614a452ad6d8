"""Batches of a data folder's samples: which each step has, and how they become rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from motc.match.data import Data, Sample, Samples

MakeLayout = Callable[[Tensor], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedBatch:
    """Samples as rows, int64 [B, S], -1 in `modality_ids` at padding, and each system's layout of them."""

    input_ids: Tensor
    modality_ids: Tensor
    latents: Mapping[str, Tensor]  # float32 [n, C, H, W] of each continuous modality
    layouts: Mapping[str, Any]
    layout_seconds: Mapping[str, float]


def indices(count: int, batch: int, seed: int, first: int, steps: int) -> Iterator[list[int]]:
    """For each step from `first` to `steps` - 1, the indices of its samples.

    All samples come once, in an order drawn from the seed, then all again in another. What a step has depends on the
    seed and its number alone.
    """
    epoch, order = -1, torch.empty(0)
    for step in range(first, steps):
        chosen = []
        for place in range(step * batch, (step + 1) * batch):
            if place // count != epoch:
                epoch = place // count
                generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
                order = torch.randperm(count, generator=generator)
            chosen.append(int(order[place % count]))
        yield chosen


def training_batches(
    data: Data, layouts: Mapping[str, MakeLayout], *, batch: int, seed: int, first: int, steps: int
) -> Iterator[PreparedBatch]:
    """The batches of the steps from `first` on."""
    chosen = indices(len(data.training), batch, seed, first, steps)
    return iter(_loader(data, data.training, layouts, chosen))


def held_out_batches(data: Data, layouts: Mapping[str, MakeLayout], *, batch: int) -> Iterator[PreparedBatch]:
    """Every held-out sample once; the last batch may be smaller."""
    order = list(range(len(data.held_out)))
    chosen = [order[start : start + batch] for start in range(0, len(order), batch)]
    return iter(_loader(data, data.held_out, layouts, chosen))


def _loader(
    data: Data, samples: Samples, layouts: Mapping[str, MakeLayout], chosen: Iterable[list[int]]
) -> Iterable[PreparedBatch]:
    def collate(rows: list[Sample]) -> PreparedBatch:
        return make_batch(rows, layouts, tuple(data.described.latents))

    # The base seed is drawn from this generator, so that the global one is left alone.
    return DataLoader[Any](
        samples, batch_sampler=chosen, collate_fn=collate, generator=torch.Generator().manual_seed(0)
    )


def make_batch(rows: list[Sample], makers: Mapping[str, MakeLayout], continuous: tuple[str, ...]) -> PreparedBatch:
    """Samples as rows, padded at the end, and each system's layout of them, whose seconds are part of its step."""
    longest = max(len(ids) for ids, *_ in rows)
    input_ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    modality_ids = torch.full((len(rows), longest), -1, dtype=torch.int64)
    for row, (ids, kinds, *_) in enumerate(rows):
        input_ids[row, : len(ids)] = ids
        modality_ids[row, : len(ids)] = kinds
    latents = {
        name: _as_numbers(torch.cat(images))
        for name, images in zip(continuous, zip(*(row[2:] for row in rows), strict=True), strict=True)
    }
    layouts, seconds = {}, {}
    for name, make in makers.items():
        start = perf_counter()
        layouts[name] = make(modality_ids)
        seconds[name] = perf_counter() - start
    return PreparedBatch(
        input_ids=input_ids,
        modality_ids=modality_ids,
        latents=latents,
        layouts=layouts,
        layout_seconds=seconds,
    )


def _as_numbers(latents: Tensor) -> Tensor:
    """float32; bytes 0..255 become -1..1."""
    return latents / 127.5 - 1 if latents.dtype == torch.uint8 else latents.float()
