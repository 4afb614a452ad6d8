"""The runs of a grid: which are to be done next, by what earlier ones found, and doing them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from motc.files import other_kind, remove_leftovers, replacing
from motc.ir.model import Model
from motc.match.data import Data
from motc.match.fit import check_fit, check_objectives
from motc.match.gradients import held_out_cosines
from motc.match.lock import Held, locked
from motc.match.pairs import Recorder
from motc.match.race import Diverged, EachStep, Notify, nothing, race
from motc.match.run import RUN, enter, finished, is_done, recorded, reproducible
from motc.match.settings import MatchError
from motc.match.sweep import Stage, Sweep
from motc.match.towers import copies, tower_distances

CHECKPOINT, DIVERGED = "checkpoint.safetensors", "diverged.json"
GRADIENTS, TOWERS = "gradients.json", "towers.json"
MEASURED = {GRADIENTS: "cosine of gradients", TOWERS: "distance of towers"}
"""Files of runs beside their losses, and what they hold."""
WAIT = 20.0  # seconds, while other processes have all that can be done


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A run: one system, trained alone."""

    system: str
    steps: int
    learning_rate: float
    seed: int

    @property
    def path(self) -> str:
        """Its folder, in the grid's."""
        return f"{self.system}/{self.steps}-{self.learning_rate:g}-seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.system}, {self.steps} steps at {self.learning_rate:g}, seed {self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run gave: losses [steps][M], held-out losses [evals][M], seconds [steps]; no losses where it diverged."""

    losses: list[list[float]]
    held_out: list[list[float]]
    seconds: list[float]

    @property
    def mean_loss(self) -> float:
        """The mean of the modalities' held-out losses after the last step, by which rates are chosen; or infinite."""
        return sum(self.held_out[-1]) / len(self.held_out[-1]) if self.held_out else math.inf


Results = Mapping[Cell, Result]


def mean_losses(results: Results, system: str, steps: int) -> dict[float, float]:
    """By rate, the mean over seeds of the mean loss; of the rates that have the most seeds."""
    by_rate: dict[float, list[float]] = {}
    for cell, result in results.items():
        if (cell.system, cell.steps) == (system, steps):
            by_rate.setdefault(cell.learning_rate, []).append(result.mean_loss)
    most = max(map(len, by_rate.values()), default=0)
    return {rate: sum(each) / len(each) for rate, each in sorted(by_rate.items()) if len(each) == most}


def best_rate(results: Results, system: str, steps: int) -> float:
    """The rate of the lowest mean loss; of equals, the lowest rate."""
    losses = mean_losses(results, system, steps)
    return min(losses, key=lambda rate: losses[rate])


def wanted(sweep: Sweep, results: Results) -> list[Cell]:
    """The runs that are known to be wanted, in their order, done or not.

    A stage's runs of a system are known once those of the stages before are done, if those choose its rates. Where the
    best rate is the lowest or highest tried, the next one beyond is wanted too, until it is not, or the ladder ends.
    """
    cells: dict[Cell, None] = {}
    waiting: set[str] = set()  # systems with runs in earlier stages that are not done
    for stage in sweep.stages:
        earlier = {cell: results[cell] for cell in cells if cell in results}
        for system in stage.systems:
            if isinstance(stage.learning_rates, str) and system in waiting:
                continue
            for cell in _of_stage(sweep, stage, system, earlier, results):
                cells[cell] = None
                if cell not in results:
                    waiting.add(system)
    return list(cells)


def _of_stage(sweep: Sweep, stage: Stage, system: str, earlier: Results, results: Results) -> Iterator[Cell]:
    """A system's runs of a stage; `earlier` are the results of the stages before, which choose its rates."""
    ladder = sweep.ladder
    if isinstance(stage.learning_rates, str):
        before = max(cell.steps for cell in earlier if cell.system == system and cell.steps <= stage.steps)
        place = ladder.index(best_rate(earlier, system, before))
        beside = 0 if stage.learning_rates == "best" else 1
        low, high = max(0, place - beside), min(len(ladder) - 1, place + beside)
        rates = list(ladder[low : high + 1])
    else:
        rates = list(stage.learning_rates)

    def of(rate: float) -> list[Cell]:
        return [Cell(system=system, steps=stage.steps, learning_rate=rate, seed=seed) for seed in stage.seeds]

    tried: list[float] = []
    while rates:
        cells = [cell for rate in rates for cell in of(rate)]
        yield from cells
        tried = sorted([*tried, *rates])
        if stage.learning_rates == "best" or any(cell not in results for cell in cells):
            return
        losses = {rate: sum(results[cell].mean_loss for cell in of(rate)) for rate in tried}
        best = min(tried, key=lambda rate: losses[rate])
        beyond = {tried[0]: ladder.index(tried[0]) - 1, tried[-1]: ladder.index(tried[-1]) + 1}.get(best, -1)
        rates = [ladder[beyond]] if 0 <= beyond < len(ladder) else []


def run_grid(
    sweep: Sweep,
    models: Mapping[str, Model],
    data: Data,
    out: Path,
    notify: Notify,
    each_run: Callable[[Cell, dict[Cell, Result], list[Cell]], None],
) -> dict[Cell, Result]:
    """Train what is wanted and not done yet. Raises MatchError and OSError.

    Other processes may work in `out`: each takes the next run that no other has. After each run of its own, `each_run`
    is called with it, all results, and all runs that are known to be wanted.
    """
    for name, model in models.items():
        check_fit(data, model, name)
    check_objectives(models)
    kind = other_kind(out)
    if kind not in (None, "a directory"):
        raise MatchError(f"{out} is {kind}; choose another --out")
    torch.set_num_threads(1)
    results: dict[Cell, Result] = {}
    while True:
        cells = wanted(sweep, results)
        found = {
            cell: result for cell in cells if cell not in results and (result := read(sweep, models, data, out, cell))
        }
        if found:  # they may have others wanted
            results |= found
            continue
        left = [cell for cell in cells if cell not in results]
        if not left:
            return results
        for cell in left:
            try:
                tell = _of_all(len(cells) - len(left), len(cells), cell, notify)
                results[cell] = train(sweep, models, data, out, cell, tell)
            except Held:
                continue
            each_run(cell, results, wanted(sweep, results))
            break
        else:
            notify((len(cells) - len(left)) / len(cells), "waiting for other processes")
            time.sleep(WAIT)


def _of_all(before: int, count: int, cell: Cell, notify: Notify) -> Notify:
    """What tells of a run, as a part of all."""

    def tell(done: float, what: str) -> None:
        notify((before + done) / count, f"{before} of {count} runs; {cell}: {what}")

    return tell


def train(sweep: Sweep, models: Mapping[str, Model], data: Data, out: Path, cell: Cell, notify: Notify) -> Result:
    """Do a run, or what is left of it. Raises MatchError, and Held where another process has it."""
    folder, settings = out / cell.path, sweep.settings(cell.steps, cell.learning_rate)
    model = {cell.system: models[cell.system]}
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        remove_leftovers(folder)
        enter(folder / RUN, {**recorded(model, data, settings), "seed": cell.seed})
        if not (folder / DIVERGED).is_file() and not is_done(folder / CHECKPOINT, cell.steps):
            notify(0.0, "compiling")
            torch._dynamo.reset()  # else what earlier runs have compiled is kept, and counted against this one
            try:
                with reproducible():
                    race(
                        model,
                        data,
                        settings,
                        cell.seed,
                        folder / CHECKPOINT,
                        notify,
                        _watch(sweep, model, data, folder),
                    )
            except Diverged as error:
                with replacing(folder / DIVERGED) as aside:
                    aside.write_text(json.dumps({"diverged": str(error)}) + "\n", encoding="utf-8")
    result = read(sweep, models, data, out, cell)
    assert result is not None
    return result


def _watch(sweep: Sweep, system: Mapping[str, Model], data: Data, folder: Path) -> EachStep:
    """What is measured in a run beside its losses: of the base its gradients, of others how far towers are apart."""
    ((name, model),) = system.items()
    if name == next(iter(sweep.systems)):
        return Recorder(folder / GRADIENTS, held_out_cosines(data, sweep.batch))
    return Recorder(folder / TOWERS, partial(tower_distances, model=model)) if copies(model) else nothing


def read(sweep: Sweep, models: Mapping[str, Model], data: Data, out: Path, cell: Cell) -> Result | None:
    """What a run gave; None where it is not done. Raises MatchError where its files are another run's, or damaged."""
    folder, settings = out / cell.path, sweep.settings(cell.steps, cell.learning_rate)
    model = {cell.system: models[cell.system]}
    diverged = (folder / DIVERGED).is_file()
    if not diverged and not is_done(folder / CHECKPOINT, cell.steps):
        return None
    enter(folder / RUN, {**recorded(model, data, settings), "seed": cell.seed})
    if diverged:
        return Result(losses=[], held_out=[], seconds=[])
    saved = finished(folder / CHECKPOINT, model, settings)
    return Result(**{name.rpartition("/")[2]: values.tolist() for name, values in saved.items()})
