"""The whole comparison: every seed's race, kept in a folder so that a run that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from motc.files import other_kind, remove_leftovers, replacing
from motc.ir.identity import semantic_hash
from motc.ir.model import Model
from motc.loading import instantiate
from motc.match.checkpoint import read_checkpoint
from motc.match.contents import check_checkpoint
from motc.match.data import Data
from motc.match.fit import check_fit, check_objectives
from motc.match.lock import locked
from motc.match.race import EachStep, Notify, nothing, race
from motc.match.report import Curves, Report, make_report
from motc.match.settings import MatchError, Settings

RUN = "run.json"
CURVES = ("losses", "held_out", "seconds")
SETTLED = {each.name: each.default for each in fields(Settings) if each.default is not MISSING}  # of older records
REPORTS = ("report.md", "report.json", "report.png")  # which the command line writes


def match_systems(
    models: Mapping[str, Model],
    data: Data,
    settings: Settings,
    out: Path,
    notify: Notify,
    finish: Callable[[Report], None] = lambda _: None,
    each_step: EachStep = nothing,
) -> Report:
    """Train every system from every seed, the first being the base, and compare. Raises MatchError and OSError.

    `out` keeps a checkpoint of each seed and of each group of systems trained together; what is there already is not
    done again, and systems that are not there yet are added, as a group of their own. No other process may work in
    `out` meanwhile, until `finish` has taken the report.
    """
    for name, model in models.items():
        check_fit(data, model, name)
    check_objectives(models)
    if out.exists() and not out.is_dir():
        raise MatchError(f"{out} is no folder; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        remove_leftovers(out)
        report = _match(models, data, settings, out, notify, each_step)
        finish(report)
    return report


def _match(
    models: Mapping[str, Model], data: Data, settings: Settings, out: Path, notify: Notify, each_step: EachStep
) -> Report:
    _check_places(out, [RUN, *REPORTS])
    groups = enter(out / RUN, recorded(models, data, settings))
    torch.set_num_threads(settings.threads)

    def checkpoint(seed: int, number: int) -> Path:
        return out / (f"seed{seed}-added{number}.safetensors" if number else f"seed{seed}.safetensors")

    _check_places(out, [checkpoint(seed, number).name for seed in range(settings.seeds) for number in groups])
    curves: list[Curves] = []
    for seed in range(settings.seeds):
        saved: dict[str, Tensor] = {}
        for place, (number, group) in enumerate(groups.items()):
            path = checkpoint(seed, number)

            def tell(done: float, what: str, before: float = seed + place / len(groups)) -> None:
                notify((before + done / len(groups)) / settings.seeds, what)

            if not is_done(path, settings.steps):
                tell(0.0, f"seed {seed}: compiling")
                with reproducible():
                    race({name: models[name] for name in group}, data, settings, seed, path, tell, each_step)
            saved |= finished(path, {name: models[name] for name in group}, settings)
        curves.append(_curves(saved, models, seed))
    base, *_ = models
    apart = tuple(name for group in groups.values() if base not in group for name in group)
    parameters = {name: _parameters(model) for name, model in models.items()}
    return make_report(curves, data.described, settings, parameters, apart)


@contextmanager
def reproducible() -> Iterator[None]:
    """Sums in one order, whatever the threads do: else the same steps, done again, end in other last bits."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    options: Any = torch.utils.deterministic  # mypy does not see what it has
    filled = options.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)  # on a GPU not all operations can
    options.fill_uninitialized_memory = False  # which only finds mistakes, and takes time
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        options.fill_uninitialized_memory = filled


def is_done(path: Path, steps: int) -> bool:
    """Whether a checkpoint is there, after the last step."""
    return path.is_file() and read_checkpoint(path, only_step=True)[0] == steps


def _check_places(out: Path, names: list[str]) -> None:
    """Raises MatchError where a file of the run could not be written, before training rather than after.

    So where a folder is in its place.
    """
    for path in (out / name for name in names):
        kind = other_kind(path)
        if kind is not None:
            raise MatchError(f"{path} is {kind}, in the place of a file: remove it, or choose another --out")


def finished(path: Path, models: Mapping[str, Model], settings: Settings) -> dict[str, Tensor]:
    """The curves of a checkpoint after the last step. Raises MatchError where it is not what training writes."""
    done, saved = read_checkpoint(path)
    networks = {name: instantiate(model, device="meta") for name, model in models.items()}
    check_checkpoint(path, saved, networks, done, settings)
    return {f"{name}/{curve}": saved[f"{name}/{curve}"] for name in models for curve in CURVES}


def _curves(saved: Mapping[str, Tensor], models: Mapping[str, Model], seed: int) -> Curves:
    curves = {curve: {name: saved[f"{name}/{curve}"].tolist() for name in models} for curve in CURVES}
    return Curves(seed=seed, **curves)


def _parameters(model: Model) -> int:
    from motc.cost import cost

    return cost(model).parameters


def recorded(models: Mapping[str, Model], data: Data, settings: Settings) -> dict[str, Any]:
    """What a run is, for run.json: all that its numbers depend on."""
    return {
        "systems": {name: semantic_hash(model) for name, model in models.items()},
        "data": data.sha256,
        **settings.recorded(),
        "torch": torch.__version__,
    }


def enter(path: Path, wanted: dict[str, Any]) -> dict[int, list[str]]:
    """Record at `path` what this run is; returns the groups of systems that are trained together, by number.

    Systems that the run does not have yet become a group of their own. Raises MatchError where another run is recorded.
    """
    systems: dict[str, str] = wanted["systems"]
    try:
        written = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else wanted
        groups: list[dict[str, str]] = [written["systems"], *written.get("added", [])]
        known = {name: digest for group in groups for name, digest in group.items()}
        if not all(groups):
            raise ValueError("a group without systems")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise MatchError(f"{path} is no record of a run; choose another --out") from None
    compared = [(key, written.get(key, SETTLED.get(key)), value) for key, value in wanted.items() if key != "systems"]
    compared += [(name, known.get(name, digest), digest) for name, digest in systems.items()]
    differing = [f"{key} was {_short(old)}, is {_short(new)}" for key, old, new in compared if old != new]
    if differing:
        raise MatchError(f"{path.parent} holds another run: {'; '.join(differing)}. Choose another --out")
    for group in groups:
        lacking = sorted(group.keys() - systems.keys())
        if 0 < len(lacking) < len(group):
            raise MatchError(
                f"{path.parent} holds {', '.join(group)}, trained together: give {', '.join(lacking)} too, "
                "or choose another --out"
            )
    added = {name: digest for name, digest in systems.items() if name not in known}
    if added:
        groups.append(added)
    if added or not path.is_file():
        later = {"added": groups[1:]} if groups[1:] else {}
        record = json.dumps({**wanted, "systems": groups[0], **later}, indent=2) + "\n"
        with replacing(path) as aside:
            aside.write_text(record, encoding="utf-8")
    return {number: list(group) for number, group in enumerate(groups) if group.keys() <= systems.keys()}


def _short(value: Any) -> str:
    return value[:8] if isinstance(value, str) and len(value) == 64 else str(value)
