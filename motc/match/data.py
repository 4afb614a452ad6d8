"""A data folder: samples of tokens and latents to train on, and held-out ones. docs/match.md describes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from motc.files import other_kind
from motc.match.settings import MatchError

FORMAT = 1
KEYS = {"format", "modalities", "vocab"}
SIZES = {"channels", "height", "width", "tokens"}
TENSORS = ("input_ids", "modality_ids", "lengths")
LARGEST = 1_000_000  # bytes of data.json
LARGEST_COUNT = 2**31 - 1  # of its numbers
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)  # others have no minimum in torch

Sample = tuple[Tensor, ...]  # input_ids [n], modality_ids [n], and each continuous modality's latents [k, C, H, W]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentSize:
    """Of each image of a continuous modality: its latent's size, and how many tokens stand for it."""

    channels: int
    height: int
    width: int
    tokens: int

    def __str__(self) -> str:
        return f"[{self.channels}, {self.height}, {self.width}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latents:
    """All images of a continuous modality, and which are each sample's."""

    values: Tensor  # [n, C, H, W], uint8 or floating-point
    bounds: Tensor  # int64 [N + 1]

    def __getitem__(self, index: int) -> Tensor:
        return self.values[int(self.bounds[index]) : int(self.bounds[index + 1])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples(Dataset[Sample]):
    """Samples one after another: ids and modalities of all their tokens, and where each sample starts and ends."""

    input_ids: Tensor  # [T]
    modality_ids: Tensor  # [T]
    bounds: Tensor  # int64 [N + 1]
    latents: tuple[Latents, ...]  # of each continuous modality, in the order of modalities

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, index: int) -> Sample:
        place = slice(int(self.bounds[index]), int(self.bounds[index + 1]))
        return self.input_ids[place], self.modality_ids[place], *(each[index] for each in self.latents)

    def counts(self, modalities: int) -> Tensor:
        """How many tokens of each modality each sample has: int64 [N, modalities]."""
        of = torch.arange(len(self)).repeat_interleave(self.bounds.diff())
        numbers = torch.bincount(of * modalities + self.modality_ids, minlength=len(self) * modalities)
        return numbers.view(len(self), modalities)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What data.json says."""

    modalities: tuple[str, ...]
    vocab: int | Mapping[str, int]  # of all modalities that have ids, or of each
    latents: Mapping[str, LatentSize]  # of each continuous modality, in the order of modalities

    def rows(self, modality: str) -> int:
        """How many ids a modality has."""
        return self.vocab if isinstance(self.vocab, int) else self.vocab[modality]


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A data folder in memory."""

    described: Description
    training: Samples
    held_out: Samples
    sha256: str  # of all its files

    @property
    def modalities(self) -> tuple[str, ...]:
        return self.described.modalities


def read_data(folder: Path) -> Data:
    """Read and check a data folder. Raises MatchError."""
    path = folder / "data.json"
    kind = other_kind(path)
    if kind is not None:
        raise MatchError(f"{path} is {kind}; a description is a file")
    if not path.is_file():
        raise MatchError(f"{folder} is no data folder: it has no data.json (docs/match.md says what one holds)")
    written = _read_description(path)
    try:
        content = json.loads(written.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise MatchError(f"{path} is no JSON: {error}") from None
    described = _described(path, content)
    hashed = hashlib.sha256(written)
    parts = {}
    for name in ("training", "held_out"):
        paths = sorted(folder.glob(f"{name}-*.safetensors"))
        if not paths:
            raise MatchError(f"{folder} has no {name}-*.safetensors")
        shards = []
        for path in paths:
            hashed.update(_sha256(path))
            shards.append(_read_shard(path, described))
        _check_dtypes(folder, name, shards, described)
        parts[name] = _join(shards, described)
        present = set(torch.bincount(parts[name].modality_ids).nonzero().flatten().tolist())
        absent = [modality for number, modality in enumerate(described.modalities) if number not in present]
        if absent:
            raise MatchError(f"the {name} samples of {folder} have no {' and no '.join(absent)} tokens")
    return Data(described=described, sha256=hashed.hexdigest(), **parts)


def _read_description(path: Path) -> bytes:
    with path.open("rb") as file:
        written = file.read(LARGEST + 1)
    if len(written) > LARGEST:
        raise MatchError(f"{path} is larger than {LARGEST:,} bytes; a description is short")
    return written


def _sha256(path: Path) -> bytes:
    """The hash of a shard.

    It is read here before safetensors opens it, which would wait for ever for a FIFO and says little of other faults.
    """
    kind = other_kind(path)
    if kind is not None:
        raise MatchError(f"{path} is {kind}; shards are files")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _described(path: Path, content: Any) -> Description:
    if not isinstance(content, dict) or not content.keys() >= KEYS:
        raise MatchError(f"{path} lacks {', '.join(sorted(KEYS - set(content if isinstance(content, dict) else ())))}")
    if content["format"] != FORMAT:
        raise MatchError(f"{path} is of format {content['format']!r}; this motc reads {FORMAT}")
    names, vocab, sizes = content["modalities"], content["vocab"], content.get("latents", {})
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise MatchError(f"{path}: modalities is a list of names")
    if len(set(names)) < len(names):
        raise MatchError(f"{path}: modalities has a name twice")
    if not isinstance(sizes, dict) or not sizes.keys() <= set(names):
        raise MatchError(f"{path}: latents has sizes for some of {', '.join(names)}")
    for name, size in sizes.items():
        if not isinstance(size, dict) or size.keys() != SIZES or not all(map(_is_count, size.values())):
            raise MatchError(f"{path}: latents of {name} has a number for each of {', '.join(sorted(SIZES))}")
    words = [name for name in names if name not in sizes]
    own = isinstance(vocab, dict) and vocab.keys() == set(words) and all(map(_is_count, vocab.values()))
    if not _is_count(vocab) and not own:
        raise MatchError(f"{path}: vocab is a number, or has one for each of {', '.join(words)}")
    latents = {name: LatentSize(**sizes[name]) for name in names if name in sizes}
    return Description(modalities=tuple(names), vocab=vocab, latents=latents)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_COUNT


def _read_shard(path: Path, described: Description) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise MatchError(f"{path} is no whole safetensors file: {error}") from None
    missing = [name for name in (*TENSORS, *map(_key, described.latents)) if name not in tensors]
    if missing:
        raise MatchError(f"{path} has no {', '.join(missing)}")
    ids, kinds, lengths = (tensors[name] for name in TENSORS)
    for name in TENSORS:
        if tensors[name].ndim != 1 or tensors[name].dtype not in INTEGERS:
            raise MatchError(
                f"{path}: {name} is {tensors[name].dtype} {[*tensors[name].shape]}; it may be a vector of uint8, int8, "
                "int16, int32 or int64"
            )
    if len(lengths) == 0 or int(lengths.min()) < 2:
        raise MatchError(f"{path}: a sample of fewer than two tokens has nothing to predict")
    if int(lengths.max()) > len(ids):  # else their sum could overflow
        raise MatchError(f"{path}: a sample has {int(lengths.max())} tokens, with {len(ids)} input_ids")
    total = int(lengths.sum())
    if not len(ids) == len(kinds) == total:
        raise MatchError(f"{path}: lengths add up to {total}, with {len(ids)} input_ids and {len(kinds)} modality_ids")
    modalities = described.modalities
    if int(kinds.min()) < 0 or int(kinds.max()) >= len(modalities):
        raise MatchError(f"{path}: modality_ids are within 0..{len(modalities) - 1}; padding has no place in a sample")
    for number, name in enumerate(modalities):
        if name in described.latents:
            _check_latents(path, name, tensors[_key(name)], described.latents[name], kinds == number, lengths)
            continue
        mine, rows = ids[kinds == number], described.rows(name)
        if mine.numel() and not (int(mine.min()) >= 0 and int(mine.max()) < rows):
            raise MatchError(f"{path}: {name} has ids {int(mine.min())}..{int(mine.max())}, beyond 0..{rows - 1}")
    return tensors


def _key(modality: str) -> str:
    """The tensor of a shard that holds a continuous modality's latents."""
    return f"latents.{modality}"


def _check_latents(path: Path, name: str, values: Tensor, size: LatentSize, mine: Tensor, lengths: Tensor) -> None:
    if values.shape[1:] != (size.channels, size.height, size.width):
        raise MatchError(f"{path}: {_key(name)} is {[*values.shape]}; data.json says {size} for each image")
    if values.dtype != torch.uint8 and not values.is_floating_point():
        raise MatchError(f"{path}: {_key(name)} is {values.dtype}; it may be uint8 or floating-point")
    if values.is_floating_point() and not bool(values.float().isfinite().all()):
        raise MatchError(f"{path}: {_key(name)} has numbers that are infinite or NaN in float32")
    starts = _starts(mine, _bounds(lengths))
    if int(starts.sum()) != len(values):
        raise MatchError(f"{path} has {int(starts.sum())} spans of {name} tokens, and latents for {len(values)}")
    first = mine.cumsum(0)[starts] - 1  # which of the modality's tokens begins each span
    if int(mine.sum()) != len(values) * size.tokens or not first.equal(torch.arange(len(values)) * size.tokens):
        raise MatchError(f"{path}: a span of {name} has another number of tokens than the {size.tokens} of data.json")


def _check_dtypes(folder: Path, part: str, shards: list[dict[str, Tensor]], described: Description) -> None:
    """Latents of a modality have one dtype: it says whether 0..255 are to become -1..1."""
    for key in map(_key, described.latents):
        dtypes = list(dict.fromkeys(str(shard[key].dtype) for shard in shards))
        if len(dtypes) > 1:
            raise MatchError(f"{key} is {' and '.join(dtypes)} in {part}-*.safetensors of {folder}; it may be only one")


def _starts(mine: Tensor, bounds: Tensor) -> Tensor:
    """Where a sample's longest runs of tokens of a modality begin, bool [T]."""
    goes_on = mine.roll(1)
    goes_on[bounds[:-1]] = False
    return mine & ~goes_on


def _bounds(lengths: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.int64), lengths.long().cumsum(0)])


def _join(shards: list[dict[str, Tensor]], described: Description) -> Samples:
    ids, kinds, lengths = (torch.cat([shard[name] for shard in shards]) for name in TENSORS)
    bounds = _bounds(lengths)
    latents = []
    for name in described.latents:
        before = _bounds(_starts(kinds == described.modalities.index(name), bounds))  # images before each token
        values = torch.cat([shard[_key(name)] for shard in shards])
        latents.append(Latents(values=values, bounds=before[bounds]))
    return Samples(input_ids=ids, modality_ids=kinds, bounds=bounds, latents=tuple(latents))
