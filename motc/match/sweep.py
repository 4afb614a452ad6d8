"""A file of a grid: which systems are trained at which learning rates, for how many steps, from which seeds."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from motc.match.settings import MatchError, Settings

Chosen = Literal["best", "best and beside"]
"""Rates that earlier runs choose: the best of the longest horizon so far; or that and its neighbours on the ladder."""

NUMBERS = {
    "batch": int,
    "evaluations": int,
    "warm_up": float,
    "final_rate": float,
    "weight_decay": float,
    "clip": float,
}
POSITIVE = ("batch", "evaluations", "clip")
SHARES = ("warm_up", "final_rate")
KEYS = {*NUMBERS, "learning_rates", "systems", "stages"}
STAGE = {"systems", "steps", "learning_rates", "seeds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A spec, and what is set in it."""

    spec: Path
    overrides: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Runs of each system, at each rate, from each seed."""

    systems: tuple[str, ...]
    steps: int
    learning_rates: tuple[float, ...] | Chosen
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The whole grid. `systems` has the base first; `ladder` has all rates there are, rising."""

    systems: Mapping[str, System]
    ladder: tuple[float, ...]
    stages: tuple[Stage, ...]
    batch: int
    evaluations: int
    warm_up: float
    final_rate: float
    weight_decay: float
    clip: float

    def settings(self, steps: int, learning_rate: float) -> Settings:
        """Of a run, on one thread."""
        return Settings(
            steps=steps,
            seeds=1,
            batch=self.batch,
            eval_every=math.ceil(steps / self.evaluations),
            learning_rate=learning_rate,
            device="cpu",
            threads=1,
            warm_up=self.warm_up,
            final_rate=self.final_rate,
            weight_decay=self.weight_decay,
            clip=self.clip,
        )


def read_sweep(path: Path) -> Sweep:
    """Read a file; the specs it names are beside it. Raises MatchError, which names the key, and OSError."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of TOML it has the line and the column
        raise MatchError(f"{path} is no TOML: {error}") from None
    _keys(content, KEYS, str(path))
    numbers = {key: _number(content[key], kind, f"{path}: {key}") for key, kind in NUMBERS.items()}
    for key in POSITIVE:
        if not numbers[key] > 0:
            raise MatchError(f"{path}: {key} is {numbers[key]}; it is above 0")
    for key in SHARES:
        if numbers[key] > 1:
            raise MatchError(f"{path}: {key} is {numbers[key]}; it is a share, from 0 to 1")
    ladder = _rates(content["learning_rates"], f"{path}: learning_rates")
    systems = _systems(content["systems"], path)
    if not isinstance(content["stages"], list) or not content["stages"]:
        raise MatchError(f"{path}: stages are tables, each [[stages]]")
    stages = [_stage(told, f"{path}: stage {place}") for place, told in enumerate(content["stages"], start=1)]
    for place, stage in enumerate(stages, start=1):
        unknown = [name for name in stage.systems if name not in systems]
        if unknown:
            raise MatchError(f"{path}: stage {place} has {unknown[0]}, which is none of {', '.join(systems)}")
        if isinstance(stage.learning_rates, str):
            before = [each for each in stages[: place - 1] if each.steps <= stage.steps]
            begun = {name for each in before for name in each.systems}
            lacking = [name for name in stage.systems if name not in begun]
            if lacking:
                raise MatchError(f"{path}: stage {place}: no stage before, as short or shorter, has {lacking[0]}")
        elif not set(stage.learning_rates) <= set(ladder):
            (rate, *_) = [rate for rate in stage.learning_rates if rate not in ladder]
            raise MatchError(f"{path}: stage {place} has the rate {rate:g}, which is not in learning_rates")
    return Sweep(systems=systems, ladder=ladder, stages=tuple(stages), **numbers)


def _systems(told: Any, path: Path) -> dict[str, System]:
    if not isinstance(told, dict) or not told:
        raise MatchError(f"{path}: systems is a table, with a spec for each name")
    systems = {}
    for name, each in told.items():
        if "/" in name or name.startswith("."):
            raise MatchError(f"{path}: {name} names a folder of runs: it has no / and begins with no dot")
        _keys(each, {"spec"}, f"{path}: systems.{name}", optional=frozenset({"set"}))
        if not isinstance(each["spec"], str) or not isinstance(each.get("set", {}), dict):
            raise MatchError(f"{path}: systems.{name} has a path as spec, and may have a table as set")
        systems[name] = System(spec=path.parent / each["spec"], overrides=each.get("set", {}))
    return systems


def _stage(told: Any, where: str) -> Stage:
    _keys(told, STAGE, where)
    names, seeds = told["systems"], told["seeds"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise MatchError(f"{where}: systems is a list of names")
    if not isinstance(seeds, list) or not seeds:
        raise MatchError(f"{where}: seeds is a list of numbers")
    steps = _number(told["steps"], int, f"{where}: steps")
    if steps < 1:
        raise MatchError(f"{where}: steps is {steps}; it is above 0")
    rates: Any = told["learning_rates"]
    if isinstance(rates, str) and rates not in get_args(Chosen):
        raise MatchError(f"{where}: learning_rates is a list, or one of {', '.join(map(repr, get_args(Chosen)))}")
    return Stage(
        systems=tuple(names),
        steps=steps,
        learning_rates=cast(Chosen, rates) if isinstance(rates, str) else _rates(rates, f"{where}: learning_rates"),
        seeds=tuple(_number(seed, int, f"{where}: seeds") for seed in seeds),
    )


def _keys(told: Any, keys: set[str], where: str, optional: frozenset[str] = frozenset()) -> None:
    if not isinstance(told, dict):
        raise MatchError(f"{where} is a table")
    missing, unknown = sorted(keys - told.keys()), sorted(told.keys() - keys - optional)
    if missing or unknown:
        what = f"has no {', '.join(missing)}" if missing else f"has {unknown[0]}"
        raise MatchError(f"{where} {what}; its keys are {', '.join(sorted(keys | optional))}")


def _number(told: Any, kind: type, where: str) -> Any:
    allowed = (int,) if kind is int else (int, float)
    if isinstance(told, bool) or not isinstance(told, allowed) or not math.isfinite(told) or told < 0:
        raise MatchError(f"{where} is {told!r}; it is a {'whole ' if kind is int else ''}number, 0 or more")
    return kind(told)


def _rates(told: Any, where: str) -> tuple[float, ...]:
    if not isinstance(told, list) or not told:
        raise MatchError(f"{where} is a list of numbers")
    rates = tuple(_number(rate, float, where) for rate in told)
    if list(rates) != sorted(set(rates)):
        raise MatchError(f"{where} rise, and none comes twice")
    return rates
