"""Weights on disk: a safetensors file, or several with an index, as one set of tensors. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motc.files import naming
from motc.weights.header import Entry, Header, is_plain_name, read_header, read_json_file, refuse

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
NAMES = (FILE, INDEX, f"diffusion_pytorch_{FILE}", f"diffusion_pytorch_{INDEX}")
"""What weights are called in a folder, by diffusers too."""
PICKLES = (
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.bin",
    "consolidated.00.pth",
    "model.pt",
    "model.pth",
)
MOST = 64_000_000
"""How many bytes an index has at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The tensors at a path by name, and the metadata that all their files have."""

    path: Path
    tensors: dict[str, Entry]
    metadata: dict[str, str]


def is_weights(path: Path) -> bool:
    """Whether weights are meant: a name that ends as theirs do, or a folder that has such a file."""
    if path.is_dir():
        return any((path / name).exists() for name in NAMES)
    return path.name.endswith((".safetensors", ".safetensors.index.json"))


def open_weights(path: Path) -> Stored:
    """The headers of a file, of the files that an index names, or of either in a folder.

    Raises SpecError, which names file and tensor, and OSError where a file cannot be read.
    """
    if path.is_dir():
        path = _in_folder(path)
    headers = [read_header(path)] if path.suffix != ".json" else list(_shards(path))
    tensors = {name: entry for header in headers for name, entry in header.tensors.items()}
    common = set.intersection(*(set(header.metadata.items()) for header in headers))
    return Stored(path=path, tensors=tensors, metadata=dict(sorted(common)))


def read_numbers(name: str, entry: Entry) -> bytearray:
    """A tensor's numbers as they stand in its file. Raises SpecError where that has become shorter, and OSError."""
    numbers = bytearray(entry.end - entry.start)
    with naming(entry.path), entry.path.open("rb") as file:
        file.seek(entry.start)
        if file.readinto(numbers) != len(numbers):
            refuse(f"{entry.path} is cut off in {name}")
    return numbers


def _in_folder(folder: Path) -> Path:
    for name in NAMES:
        if (folder / name).exists():
            return folder / name
    for name in PICKLES:
        if (folder / name).exists():
            refuse(f"{folder / name} is a pickle, which may run any program: it is not opened", f"it needs {FILE}")
    return refuse(f"{folder} has neither {FILE} nor {INDEX}")


def _shards(path: Path) -> Iterable[Header]:
    """The headers of the files that an index names, each with the tensors that the index has in it and no others."""
    by_file = _by_file(path, _weight_map(path))
    for name, names in by_file.items():
        if not (path.parent / name).exists():
            refuse(f"{path} has {min(names)} in {name}, which is not there")
    for name, names in by_file.items():
        shard = path.parent / name
        header = read_header(shard)
        missing = next((each for each in names if each not in header.tensors), None)
        if missing is not None:
            refuse(f"{path} has {missing} in {name}, which does not")
        more = next((each for each in header.tensors if each not in names), None)
        if more is not None:
            refuse(f"{shard} has {more}, which {path.name} does not have there")
        yield header


def _by_file(path: Path, weight_map: dict[str, str]) -> dict[str, set[str]]:
    by_file: dict[str, set[str]] = {}
    for tensor, name in weight_map.items():
        if not is_plain_name(name):
            refuse(f"{path} has {tensor} in {name!r}, which is no file of its folder")
        by_file.setdefault(name, set()).add(tensor)
    return by_file


def _weight_map(path: Path) -> dict[str, str]:
    weight_map: Any = read_json_file(path, MOST, "an index of weights").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        refuse(f"{path} should have a `weight_map` of tensors and the files that they are in")
    return weight_map
