"""What a grid has found so far, as a page of Markdown and as JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from motc.cost.flops import flops_per_token
from motc.cost.parameters import total_parameters
from motc.ir.model import Model
from motc.match.data import Data
from motc.match.grid import Cell, Results, best_rate, mean_losses
from motc.match.markdown import NONE, row, spread, table
from motc.match.matching import Match, match
from motc.match.report import column, eval_steps
from motc.match.sweep import Sweep
from motc.processor import processor_name

BACKWARD = 3  # a training step has three times the forward's products


@dataclass(frozen=True, slots=True, kw_only=True)
class GridReport:
    """A grid, and the results there are of it. The first system is the base."""

    sweep: Sweep
    models: Mapping[str, Model]
    data: Data
    results: Results
    wanted: Sequence[Cell]  # as far as it is known

    @property
    def base(self) -> str:
        return next(iter(self.models))

    @property
    def horizons(self) -> list[int]:
        """The numbers of steps of which there are results."""
        return sorted({cell.steps for cell in self.results})

    def systems(self, steps: int) -> list[str]:
        """Those with results of so many steps, in the sweep's order."""
        present = {cell.system for cell in self.results if cell.steps == steps}
        return [name for name in self.models if name in present]

    def seeds(self, system: str, steps: int, rate: float) -> list[int]:
        """The seeds of which there are results that did not diverge."""
        cells = (cell for cell, result in self.results.items() if result.held_out)
        key = (system, steps, rate)
        return sorted(cell.seed for cell in cells if (cell.system, cell.steps, cell.learning_rate) == key)

    def held_out(self, system: str, steps: int, rate: float, seed: int, modality: str) -> list[float]:
        """A run's held-out losses."""
        result = self.results[Cell(system=system, steps=steps, learning_rate=rate, seed=seed)]
        return column(result.held_out, self.data.modalities.index(modality))

    def matches(self, system: str, steps: int, modality: str) -> list[Match]:
        """Each seed's match with the base, both at their best rates; of the base itself, each seed's with another's."""
        mine, others = (best_rate(self.results, name, steps) for name in (self.base, system))
        points = eval_steps(self.sweep.settings(steps, mine))
        return [
            match(
                points,
                self.held_out(self.base, steps, mine, seed, modality),
                self.held_out(system, steps, others, other, modality),
            )
            for seed in self.seeds(self.base, steps, mine)
            for other in self.seeds(system, steps, others)
            if (seed != other) == (system == self.base)
        ]

    def best_rate_of(self, system: str, steps: int, modality: str) -> float:
        """The rate whose runs end lowest in one modality; of the rates that have the most seeds."""

        def mean(rate: float) -> float:
            ends = self.ends(system, steps, rate, modality)
            return sum(ends) / len(ends) if ends else math.inf

        return min(mean_losses(self.results, system, steps), key=mean)

    def ends(self, system: str, steps: int, rate: float, modality: str) -> list[float]:
        """Each seed's held-out loss after the last step."""
        seeds = self.seeds(system, steps, rate)
        return [self.held_out(system, steps, rate, seed, modality)[-1] for seed in seeds]

    def best_ends(self, system: str, steps: int, modality: str) -> list[float]:
        """The same at the system's best rate."""
        return self.ends(system, steps, best_rate(self.results, system, steps), modality)

    def flops(self, system: str) -> float:
        """Of a step, on average: three times the forward's matrix products of its tokens that are no padding."""
        data, each = self.data, flops_per_token(self.models[system])
        counts: list[int] = torch.bincount(data.training.modality_ids.long(), minlength=len(each)).tolist()
        forward = sum(count * each[name] for name, count in zip(data.modalities, counts, strict=True))
        return BACKWARD * forward * self.sweep.batch / len(data.training)

    def seconds(self, system: str, steps: int) -> float | None:
        """The median of a step, of all runs of so many steps."""
        timed = [
            second
            for cell, result in self.results.items()
            if (cell.system, cell.steps) == (system, steps)
            for second in result.seconds
            if not math.isnan(second)
        ]
        return statistics.median(timed) if timed else None

    def to_json(self) -> dict[str, Any]:
        """Every run's held-out curves, and what is known of each system."""
        return {
            "modalities": list(self.data.modalities),
            "done": len(self.results),
            "wanted": len(self.wanted),
            "processor": processor_name(),
            "torch": torch.__version__,
            "systems": {
                name: {"parameters": total_parameters(model), "flops_a_step": self.flops(name)}
                for name, model in self.models.items()
            },
            "runs": [
                {
                    "system": cell.system,
                    "steps": cell.steps,
                    "learning_rate": cell.learning_rate,
                    "seed": cell.seed,
                    "diverged": not result.held_out,
                    "eval_steps": eval_steps(self.sweep.settings(cell.steps, cell.learning_rate)),
                    "held_out": result.held_out,
                }
                for cell, result in self.results.items()
            ],
        }


def to_markdown(report: GridReport, command: str) -> str:
    """The page; `command` is what made it."""
    sweep = report.sweep
    lines = [
        f"# {len(report.results)} runs of {len(report.wanted)} that are known to be wanted",
        "",
        f"    {command}",
        "",
        f"Batches of {sweep.batch}; warm-up over {sweep.warm_up:g} of the steps, then a cosine to {sweep.final_rate:g} "
        f"of the rate; weight decay {sweep.weight_decay:g}, gradients clipped at {sweep.clip:g}; one thread, "
        f"{processor_name()}, torch {torch.__version__}. Losses are held out, in nats a token; with several seeds "
        "their mean, lowest and highest in brackets.",
    ]
    for steps in report.horizons:
        lines += [
            "",
            f"## {steps:,} steps",
            "",
            *_rates(report, steps),
            "",
            *_ends(report, steps),
            "",
            *_steps(report, steps),
        ]
    return "\n".join([*lines, ""])


def _rates(report: GridReport, steps: int) -> Iterator[str]:
    """Mean loss against rate."""
    rates = sorted({cell.learning_rate for cell in report.results if cell.steps == steps})
    yield from ("The mean of the modalities' losses at the end, at each learning rate; each system's best is bold.", "")
    yield from table(
        ["system", *(f"{rate:g}" for rate in rates), *(f"best for {name}" for name in report.data.modalities)]
    )
    for system in report.systems(steps):
        best = best_rate(report.results, system, steps)
        cells = []
        for rate in rates:
            values = [
                result.mean_loss
                for cell, result in report.results.items()
                if (cell.system, cell.steps, cell.learning_rate) == (system, steps, rate)
            ]
            told = "diverged" if any(map(math.isinf, values)) else spread(values)
            cells.append(f"**{told}**" if rate == best else told)
        own = (f"{report.best_rate_of(system, steps, name):g}" for name in report.data.modalities)
        yield row([system, *cells, *own])


def _ends(report: GridReport, steps: int) -> Iterator[str]:
    """Losses of each modality at the best rate, and costs."""
    yield from ("At each system's best rate:", "")
    titles = ("system", "rate", "seeds", *report.data.modalities, "parameters", "GFLOPs a step", "median step, ms")
    yield from table(list(titles))
    for system in report.systems(steps):
        rate = best_rate(report.results, system, steps)
        ends = [spread(report.ends(system, steps, rate, modality)) for modality in report.data.modalities]
        seconds = report.seconds(system, steps)
        costs = (f"{total_parameters(report.models[system]):,}", f"{report.flops(system) / 1e9:.1f}")
        time = NONE if seconds is None else f"{1000 * seconds:.0f}"
        yield row([system, f"{rate:g}", str(len(report.seeds(system, steps, rate))), *ends, *costs, time])


def _steps(report: GridReport, steps: int) -> Iterator[str]:
    """Step matching against the base, both at their best rates."""
    base = report.base
    if base not in report.systems(steps):
        return
    yield from (
        f"Share of the steps of {base} to its held-out loss, both at their best rates and from the same seed; below 1 "
        f"is better. {base} beside itself is one seed beside another. † where losses of {base} were never reached, "
        "which are left out.",
        "",
    )
    yield from table(["system", *report.data.modalities])
    for system in report.systems(steps):
        cells = []
        for modality in report.data.modalities:
            matches = report.matches(system, steps, modality)
            ratios = [each.ratio for each in matches if each.ratio is not None]
            cells.append(spread(ratios) + ("†" if any(each.unmatched for each in matches) else ""))
        yield row([f"{base}, itself" if system == base else system, *cells])
