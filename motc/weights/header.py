"""What a safetensors file says that it holds, read without torch and believed only where it can be true.

A file is eight bytes with the length of a header, the header as JSON, and the numbers of all tensors behind it, without
gaps: {"__metadata__": {"key": "text"}, "head.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from motc.files import naming, other_kind
from motc.source import Diagnostic, SpecError

LONGEST = 100_000_000
"""How many bytes a header has at most, here as in other readers of the format."""

BYTES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 1),
}
"""How many bytes a number of each dtype has."""

PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How files begin that `torch.save` and `pickle` write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A tensor in a file: what it is, and between which bytes of the file its numbers are."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The tensors of a file by name, in the order of their numbers, and its metadata."""

    path: Path
    tensors: dict[str, Entry]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """The header of a file, checked against the file's size.

    Raises SpecError, which names the tensor that is lied about, and OSError where the file cannot be read.
    """
    kind = other_kind(path)
    if kind is not None:
        refuse(f"{path} is {kind}, and weights are a file")
    with naming(path), path.open("rb") as file:
        start, size = file.read(8), path.stat().st_size
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= LONGEST:
            if start.startswith(PICKLES):
                help_ = "have who wrote it save it as safetensors"
                refuse(f"{path} is a pickle, which may run any program: it is not opened", help_)
            refuse(f"{path} is no safetensors file")
        if 8 + length > size:
            refuse(f"{path} is cut off: its header should have {length:,} bytes, and the file has {size:,}")
        said = read_json(file.read(length), f"the header of {path}")
    metadata = said.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        refuse(f"{path}: `__metadata__` should be texts by their names")
    entries = {name: _entry(path, name, of, 8 + length) for name, of in said.items()}
    in_order = dict(sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)))
    _check_numbers(path, in_order, 8 + length, size)
    return Header(path=path, tensors=in_order, metadata=metadata)


def header_bytes(tensors: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """How a file begins that has tensors of these names, dtypes and shapes, their numbers following in this order."""
    said: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, dtype, shape in tensors:
        start, end = end, end + prod(shape) * BYTES[dtype]
        said[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that numbers begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text


def refuse(message: str, help_: str = "") -> NoReturn:
    """Say that what should hold weights does not."""
    raise SpecError(Diagnostic(code="MOT100", message=message, span=None, help=help_))


def read_json_file(path: Path, most: int, what: str) -> dict[str, Any]:
    """The object in a file of at most so many bytes, which is `what`. Raises SpecError, and OSError where it cannot."""
    with naming(path), path.open("rb") as file:
        text = file.read(most + 1)
    if len(text) > most:
        refuse(f"{path} is larger than {what} is")
    return read_json(text, str(path))


def read_json(text: bytes, what: str) -> dict[str, Any]:
    """An object that has no name twice. Raises SpecError, which says `what` the text is."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(said := dict(pairs)) != len(pairs):
            names = Counter(name for name, _ in pairs)
            refuse(f"{what} has {names.most_common(1)[0][0]} twice")
        return said

    try:
        said = json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        refuse(f"{what} is no JSON: {str(error)[:200]}")
    if not isinstance(said, dict):
        refuse(f"{what} is no JSON object")
    return said


def _entry(path: Path, name: str, said: Any, base: int) -> Entry:
    match said:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]}:
            pass
        case _:
            refuse(f"{path}: the header does not say dtype, shape and data_offsets of {name}")
    if dtype not in BYTES:
        refuse(f"{path}: {name} is of dtype {dtype}, which motc does not know")
    if not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        refuse(f"{path}: {name} has the shape {shape}, which is none")
    wanted = prod(shape) * BYTES[dtype]
    if not 0 <= start <= end or end - start != wanted:
        refuse(f"{path}: {name} {shape} in {dtype} has {wanted:,} bytes, and the header says {start:,} to {end:,}")
    return Entry(path=path, dtype=dtype, shape=tuple(shape), start=base + start, end=base + end)


def _check_numbers(path: Path, tensors: Mapping[str, Entry], base: int, size: int) -> None:
    """That each byte behind the header is of one tensor."""
    at = base
    for name, entry in tensors.items():
        if entry.end > size:
            refuse(f"{path} is cut off: {name} should end at byte {entry.end:,}, and the file has {size:,}")
        if entry.start != at:
            what = "shares bytes with" if entry.start < at else "does not follow at once on"
            refuse(f"{path}: {name} {what} what is before it")
        at = entry.end
    if at != size:
        refuse(f"{path} has {size - at:,} bytes that are of no tensor")


def is_plain_name(name: str) -> bool:
    """Whether this names a file in a folder, and nothing outside of it."""
    return re.fullmatch(r"[^/\\\0]+", name) is not None and name not in (".", "..")
