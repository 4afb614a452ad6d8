"""The accelerators that a plan may be for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from motc.source.nearest import suggestion

SHIPPED = Path(__file__).resolve().parent / "accelerators.yaml"
FIGURES = ("memory", "bf16", "node", "link", "network")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One device: bytes of memory, operations a second of dense bfloat16 products, how many are in a node, and bytes a
    second that it sends within one and to others."""

    name: str
    memory: float
    bf16: float
    node: int
    link: float
    network: float
    source: str


def accelerator(name: str, own: Path | None = None) -> Accelerator:
    """One by its name, of the shipped file or of one's own, which comes first. Raises ValueError, OSError."""
    known = _read(SHIPPED) | ({} if own is None else _read(own))
    if name not in known:
        there = f"there are {', '.join(known)}; --gpus-file adds others"
        raise ValueError(f"no accelerator is called {name!r}: {suggestion(name, known, there)}")
    return known[name]


def _read(path: Path) -> dict[str, Accelerator]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} is not a mapping of names to accelerators")
    return {str(name): _one(path, str(name), entry) for name, entry in data.items()}


def _one(path: Path, name: str, entry: object) -> Accelerator:
    if not isinstance(entry, dict) or set(entry) != {*FIGURES, "source"}:
        raise ValueError(f"{path}: {name} needs {', '.join(FIGURES)} and source, and nothing else")
    for key in FIGURES:
        value = entry[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ValueError(f"{path}: {key} of {name} is {value!r}, and must be a number above 0")
    if not isinstance(entry["node"], int):
        raise ValueError(f"{path}: node of {name} is {entry['node']!r}, and must be a whole number")
    return Accelerator(
        name=name,
        memory=entry["memory"] * 1e9,
        bf16=entry["bf16"] * 1e12,
        node=entry["node"],
        link=entry["link"] * 1e9,
        network=entry["network"] * 1e9,
        source=str(entry["source"]),
    )
