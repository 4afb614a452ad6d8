"""A data folder: samples of tokens to train on and held-out ones. docs/match.md describes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from motc.ir.model import Model
from motc.match.settings import MatchError

FORMAT = 1
KEYS = {"format", "modalities", "vocab"}
TENSORS = ("input_ids", "modality_ids", "lengths")

Sample = tuple[Tensor, Tensor]  # input_ids and modality_ids, each [n]
MakeLayout = Callable[[Tensor], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples(Dataset[Sample]):
    """Samples one after another: ids and modalities of all their tokens, and where each sample starts and ends."""

    input_ids: Tensor  # [T]
    modality_ids: Tensor  # [T]
    bounds: Tensor  # int64 [N + 1]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, index: int) -> Sample:
        place = slice(int(self.bounds[index]), int(self.bounds[index + 1]))
        return self.input_ids[place], self.modality_ids[place]


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A data folder in memory."""

    modalities: tuple[str, ...]
    vocab: int | Mapping[str, int]  # of all modalities, or of each
    training: Samples
    held_out: Samples
    sha256: str  # of all its files


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Samples as rows, int64 [B, S], -1 in `modality_ids` at padding, and each system's layout of them."""

    input_ids: Tensor
    modality_ids: Tensor
    layouts: Mapping[str, Any]
    layout_seconds: Mapping[str, float]
    counts: Tensor  # int64 [M]: targets of each modality


def read_data(folder: Path) -> Data:
    """Read and check a data folder. Raises MatchError."""
    described = folder / "data.json"
    if not described.is_file():
        raise MatchError(f"{folder} is no data folder: it has no data.json (docs/match.md says what one holds)")
    try:
        found = json.loads(described.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MatchError(f"{described} is no JSON: {error}") from None
    modalities, vocab = _described(described, found)
    hashed = hashlib.sha256(described.read_bytes())
    parts = {}
    for name in ("training", "held_out"):
        paths = sorted(folder.glob(f"{name}-*.safetensors"))
        if not paths:
            raise MatchError(f"{folder} has no {name}-*.safetensors")
        shards = [_read_shard(path, modalities, vocab) for path in paths]
        for path in paths:
            with path.open("rb") as file:
                hashed.update(hashlib.file_digest(file, "sha256").digest())
        parts[name] = _join(shards)
        present = set(torch.bincount(parts[name].modality_ids).nonzero().flatten().tolist())
        absent = [modality for number, modality in enumerate(modalities) if number not in present]
        if absent:
            raise MatchError(f"the {name} samples of {folder} have no {' and no '.join(absent)} tokens")
    return Data(modalities=modalities, vocab=vocab, sha256=hashed.hexdigest(), **parts)


def _described(path: Path, found: Any) -> tuple[tuple[str, ...], int | dict[str, int]]:
    if not isinstance(found, dict) or not found.keys() >= KEYS:
        raise MatchError(f"{path} lacks {', '.join(sorted(KEYS - set(found if isinstance(found, dict) else ())))}")
    if found["format"] != FORMAT:
        raise MatchError(f"{path} is of format {found['format']!r}; this motc reads {FORMAT}")
    names, vocab = found["modalities"], found["vocab"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise MatchError(f"{path}: modalities is a list of names")
    shared = isinstance(vocab, int) and vocab > 0
    own = isinstance(vocab, dict) and vocab.keys() == set(names)
    if not shared and not (own and all(isinstance(rows, int) and rows > 0 for rows in vocab.values())):
        raise MatchError(f"{path}: vocab is a number, or has one for each of {', '.join(names)}")
    return tuple(names), vocab


def _read_shard(path: Path, modalities: tuple[str, ...], vocab: int | Mapping[str, int]) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise MatchError(f"{path} is no whole safetensors file: {error}") from None
    missing = [name for name in TENSORS if name not in tensors]
    if missing:
        raise MatchError(f"{path} has no {', '.join(missing)}")
    ids, kinds, lengths = (tensors[name] for name in TENSORS)
    if any(x.ndim != 1 or x.is_floating_point() for x in (ids, kinds, lengths)):
        raise MatchError(f"{path}: {', '.join(TENSORS)} are vectors of whole numbers")
    total = int(lengths.sum())
    if not len(ids) == len(kinds) == total:
        raise MatchError(f"{path}: lengths add up to {total}, with {len(ids)} input_ids and {len(kinds)} modality_ids")
    if len(lengths) == 0 or int(lengths.min()) < 2:
        raise MatchError(f"{path}: a sample of fewer than two tokens has nothing to predict")
    if int(kinds.min()) < 0 or int(kinds.max()) >= len(modalities):
        raise MatchError(f"{path}: modality_ids are within 0..{len(modalities) - 1}; padding has no place in a sample")
    for number, name in enumerate(modalities):
        mine = ids[kinds == number]
        rows = vocab if isinstance(vocab, int) else vocab[name]
        if mine.numel() and not (int(mine.min()) >= 0 and int(mine.max()) < rows):
            raise MatchError(f"{path}: {name} has ids {int(mine.min())}..{int(mine.max())}, beyond 0..{rows - 1}")
    return tensors


def _join(shards: list[dict[str, Tensor]]) -> Samples:
    ids, kinds, lengths = (torch.cat([shard[name] for shard in shards]) for name in TENSORS)
    bounds = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.long().cumsum(0)])
    return Samples(input_ids=ids, modality_ids=kinds, bounds=bounds)


def check_fit(data: Data, model: Model, name: str) -> None:
    """Raises MatchError unless the model has the data's modalities, in its order, and rows for all of its ids."""
    names = tuple(modality.name for modality in model.modalities)
    if names != data.modalities:
        raise MatchError(f"{name} has the modalities {', '.join(names)}; the data has {', '.join(data.modalities)}")
    for modality in model.modalities:
        if isinstance(data.vocab, int) != (modality.vocab is None):
            kinds = ("one vocabulary", "vocabularies of each modality")
            mine, theirs = kinds if modality.vocab is None else kinds[::-1]
            raise MatchError(f"{name} has {mine}; the data has {theirs}")
        needed = data.vocab if isinstance(data.vocab, int) else data.vocab[modality.name]
        rows = model.vocab if modality.vocab is None else modality.vocab
        if rows is None or rows < needed:
            raise MatchError(f"{name} has {rows} rows for {modality.name}; the data has {needed} ids")


def indices(count: int, batch: int, seed: int, first: int, steps: int) -> Iterator[list[int]]:
    """The samples of steps first..steps - 1: every sample once in an order made from the seed, then all in another.

    What a step has depends on seed and step alone.
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
) -> Iterator[Batch]:
    """The batches of the steps from `first` on."""
    chosen = list(indices(len(data.training), batch, seed, first, steps))
    return iter(_loader(data, data.training, layouts, chosen))


def held_out_batches(data: Data, layouts: Mapping[str, MakeLayout], *, batch: int) -> Iterator[Batch]:
    """Every held-out sample once; the last batch may be smaller."""
    order = list(range(len(data.held_out)))
    chosen = [order[start : start + batch] for start in range(0, len(order), batch)]
    return iter(_loader(data, data.held_out, layouts, chosen))


def _loader(
    data: Data, samples: Samples, layouts: Mapping[str, MakeLayout], chosen: list[list[int]]
) -> Iterable[Batch]:
    def collate(rows: list[Sample]) -> Batch:
        return make_batch(rows, layouts, len(data.modalities))

    # The base seed is drawn from this generator, so that the global one is left alone.
    return DataLoader[Any](
        samples, batch_sampler=chosen, collate_fn=collate, generator=torch.Generator().manual_seed(0)
    )


def make_batch(rows: list[Sample], layouts: Mapping[str, MakeLayout], modality_count: int) -> Batch:
    """Samples as rows, padded at the end; the layouts are timed, for they are a part of what a step costs."""
    longest = max(len(ids) for ids, _ in rows)
    input_ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    modality_ids = torch.full((len(rows), longest), -1, dtype=torch.int64)
    for row, (ids, kinds) in enumerate(rows):
        input_ids[row, : len(ids)] = ids
        modality_ids[row, : len(ids)] = kinds
    targets = modality_ids[:, 1:].flatten()
    counts = torch.stack([(targets == number).sum() for number in range(modality_count)])
    made, seconds = {}, {}
    for name, make in layouts.items():
        start = perf_counter()
        made[name] = make(modality_ids)
        seconds[name] = perf_counter() - start
    return Batch(input_ids=input_ids, modality_ids=modality_ids, layouts=made, layout_seconds=seconds, counts=counts)
