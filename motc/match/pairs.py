"""Numbers of pairs, of modalities or of towers, for each parameter, as a run goes on: kept in a file by step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from motc.files import write_whole
from motc.match.race import System

Pairs = Mapping[str, Mapping[str, float]]
"""By parameter, then by pair, as `text image`."""


class Recorder:
    """Measures the one system of a race at each evaluation. A file that is there is gone on with."""

    def __init__(self, path: Path, measure: Callable[[System], Pairs]) -> None:
        self.path, self.measure = path, measure
        self.by_step = recorded(path) if path.is_file() else {}

    def __call__(self, seed: int, step: int, systems: Sequence[System], *, evaluated: bool) -> None:
        """Called after each step."""
        if evaluated:
            (system,) = systems
            self.by_step[step] = self.measure(system)
            write_whole(self.path, json.dumps(self.by_step, indent=1) + "\n")


def recorded(path: Path) -> dict[int, Pairs]:
    """What a file holds, by step. Raises OSError, and ValueError where it is not such a file."""
    return {int(step): pairs for step, pairs in json.loads(path.read_text(encoding="utf-8")).items()}


def mean_by(part: Callable[[str], str], pairs: Pairs, pair: str) -> dict[str, float]:
    """The mean, of each part, of its layers' parameters that have a number of the pair."""
    found: dict[str, list[float]] = {}
    for name, numbers in pairs.items():
        if name.startswith("layers.") and pair in numbers:
            found.setdefault(part(name), []).append(numbers[pair])
    return {name: sum(each) / len(each) for name, each in found.items()}


def group_of(name: str) -> str:
    """Of `layers.3.attention.q.weight`, `attention.q`."""
    return ".".join(name.split(".")[2:-1])


def layer_of(name: str) -> str:
    """Of `layers.3.attention.q.weight`, `layer 3`."""
    return f"layer {name.split('.')[1]}"


def names_of_pairs(all_pairs: Iterable[Pairs]) -> list[str]:
    """Each pair that some parameter has, once."""
    return list(dict.fromkeys(pair for pairs in all_pairs for numbers in pairs.values() for pair in numbers))
