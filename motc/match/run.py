"""The whole comparison: every seed's race, kept in a folder so that a run that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from motc.ir.identity import semantic_hash
from motc.ir.model import Model
from motc.match.checkpoint import read_checkpoint
from motc.match.data import Data
from motc.match.fit import check_fit, check_objectives
from motc.match.race import Notify, race
from motc.match.report import Curves, Report, make_report
from motc.match.settings import MatchError, Settings

RUN = "run.json"


def match_systems(models: Mapping[str, Model], data: Data, settings: Settings, out: Path, notify: Notify) -> Report:
    """Train every system from every seed, the first being the base, and compare. Raises MatchError.

    `out` keeps a checkpoint of each seed; what is there already is not done again.
    """
    for name, model in models.items():
        check_fit(data, model, name)
    check_objectives(models)
    out.mkdir(parents=True, exist_ok=True)
    _check_same_run(out / RUN, _recorded(models, data, settings))
    torch.set_num_threads(settings.threads)
    curves: list[Curves] = []
    for seed in range(settings.seeds):
        path = out / f"seed{seed}.safetensors"

        def tell(done: float, what: str, seed: int = seed) -> None:
            notify((seed + done) / settings.seeds, what)

        if not _is_done(path, settings.steps):
            tell(0.0, f"seed {seed}: compiling")
            with _reproducible():
                race(models, data, settings, seed, path, tell)
        curves.append(_read_curves(path, models, seed))
    parameters = {name: _parameters(model) for name, model in models.items()}
    return make_report(curves, data.described, settings, parameters)


@contextmanager
def _reproducible() -> Iterator[None]:
    """Sums in one order, whatever the threads do: else the same steps, done again, end in other last bits."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)  # on a GPU not all operations can
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def _is_done(path: Path, steps: int) -> bool:
    return path.is_file() and read_checkpoint(path, only_step=True)[0] == steps


def _read_curves(path: Path, models: Mapping[str, Model], seed: int) -> Curves:
    _, saved = read_checkpoint(path)

    def of(kind: str) -> dict[str, Any]:
        return {name: saved[f"{name}/{kind}"].tolist() for name in models}

    return Curves(seed=seed, losses=of("losses"), held_out=of("held_out"), seconds=of("seconds"))


def _parameters(model: Model) -> int:
    from motc.cost import cost

    return cost(model).parameters


def _recorded(models: Mapping[str, Model], data: Data, settings: Settings) -> dict[str, Any]:
    return {
        "systems": {name: semantic_hash(model) for name, model in models.items()},
        "data": data.sha256,
        **settings.recorded(),
        "torch": torch.__version__,
    }


def _check_same_run(path: Path, wanted: dict[str, Any]) -> None:
    """Write what this run is, or refuse to go on with another one."""
    if not path.is_file():
        aside = path.with_name(f"{path.name}.partial")
        aside.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        aside.replace(path)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise MatchError(f"{path} is no record of a run; choose another --out") from None
    differing = [
        f"{key} was {_short(found.get(key))}, is {_short(value)}"
        for key, value in wanted.items()
        if found.get(key) != value or (key == "systems" and list(found[key]) != list(wanted[key]))
    ]
    if differing:
        raise MatchError(f"{path.parent} holds another run: {'; '.join(differing)}. Choose another --out")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} ({digest[:8]})" for name, digest in value.items())
    return value[:8] if isinstance(value, str) and len(value) == 64 else str(value)
