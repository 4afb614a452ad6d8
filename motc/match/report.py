"""What a comparison found: losses, and how many steps and how much time each system needs to be where the base is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from motc.match.data import Description
from motc.match.matching import Match, match, smooth
from motc.match.settings import Settings
from motc.processor import processor_name

SMOOTHED = 1 / 30  # of the steps, at least one: a mean's window


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """One seed's numbers, by system: losses [steps][M], held-out losses [evals][M], seconds [steps]."""

    seed: int
    losses: dict[str, list[list[float]]]
    held_out: dict[str, list[list[float]]]
    seconds: dict[str, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A system against the base, from one seed; by modality: steps to match its training and its held-out loss."""

    seed: int
    training: dict[str, Match]
    held_out: dict[str, Match]
    step_time: float | None  # its median step, in median steps of the base; None where they do not compare


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole comparison. Systems are in the order given, and the first is the base."""

    modalities: tuple[str, ...]
    continuous: tuple[str, ...]  # of them, those whose loss is a mean squared error, not nats a token
    settings: Settings
    parameters: dict[str, int]
    curves: tuple[Curves, ...]
    comparisons: dict[str, tuple[Comparison, ...]]  # the base too, with itself: less than 1 is what noise gives
    apart: tuple[str, ...]  # systems not trained beside the base, whose step times therefore do not compare
    processor: str
    torch: str

    @property
    def base(self) -> str:
        return next(iter(self.parameters))

    @property
    def window(self) -> int:
        """Steps in the mean that smooths training losses."""
        return window(self.settings.steps)

    @property
    def eval_steps(self) -> list[int]:
        return eval_steps(self.settings)

    def median_seconds(self, system: str) -> float | None:
        """The median of a system's steps of all seeds, layouts counted in, but no steps in which torch compiled."""
        return _median([second for curves in self.curves for second in curves.seconds[system]])

    def final(self, system: str, modality: str, *, held_out: bool) -> list[float]:
        """Each seed's loss at the end: the mean of the last `window` steps, or the last held-out loss."""
        place = self.modalities.index(modality)
        if held_out:
            return [curves.held_out[system][-1][place] for curves in self.curves]
        return [smooth(column(curves.losses[system], place), self.window)[-1] for curves in self.curves]

    def ratios(self, system: str, modality: str, kind: str) -> list[float]:
        """Each seed's ratio, where it has one; kind: training, held_out, or either with `_time` behind it."""
        each_seed = []
        for each in self.comparisons[system]:
            matched = (each.held_out if kind.startswith("held_out") else each.training)[modality].ratio
            factor = each.step_time if kind.endswith("_time") else 1.0
            if matched is not None and factor is not None:
                each_seed.append(matched * factor)
        return each_seed

    def step_times(self, system: str) -> list[float]:
        return [each.step_time for each in self.comparisons[system] if each.step_time is not None]

    def to_json(self) -> dict[str, Any]:
        """Types JSON knows; what was not measured is null."""
        return {
            "base": self.base,
            "trained_apart": list(self.apart),
            "modalities": list(self.modalities),
            "settings": {**self.settings.recorded(), "seeds": self.settings.seeds},
            "smoothed_over": self.window,
            "processor": self.processor,
            "torch": self.torch,
            "systems": {name: self._system(name) for name in self.parameters},
        }

    def _system(self, name: str) -> dict[str, Any]:
        figures: dict[str, Any] = {
            "parameters": self.parameters[name],
            "median_step_seconds": self.median_seconds(name),
            "loss": self._by_modality(lambda modality: self.final(name, modality, held_out=False)),
            "held_out_loss": self._by_modality(lambda modality: self.final(name, modality, held_out=True)),
        }

        def unmatched(kind: str) -> dict[str, list[int]]:
            return {
                modality: [getattr(each, kind)[modality].unmatched for each in self.comparisons[name]]
                for modality in self.modalities
            }

        def ratios(kind: str) -> dict[str, list[float | None]]:
            return self._by_modality(lambda modality: self.ratios(name, modality, kind))

        figures |= {"steps_to_match": ratios("training"), "steps_to_match_held_out": ratios("held_out")}
        if name == self.base:
            return figures
        return {
            **figures,
            "step_time_ratio": self.step_times(name),
            "time_to_match": ratios("training_time"),
            "time_to_match_held_out": ratios("held_out_time"),
            "base_steps_never_matched": unmatched("training"),
            "base_evaluations_never_matched": unmatched("held_out"),
        }

    def _by_modality(self, of: Callable[[str], list[float]]) -> dict[str, list[float | None]]:
        return {name: [None if math.isnan(x) else x for x in of(name)] for name in self.modalities}


def make_report(
    curves: Sequence[Curves],
    described: Description,
    settings: Settings,
    parameters: dict[str, int],
    apart: tuple[str, ...],
) -> Report:
    """Compare every system with the first, itself included; where it was trained apart from that, by steps alone."""
    base = next(iter(parameters))
    modalities = described.modalities
    return Report(
        modalities=modalities,
        continuous=tuple(described.latents),
        settings=settings,
        parameters=parameters,
        curves=tuple(curves),
        comparisons={
            name: tuple(_compare(each, base, name, modalities, settings, timed=name not in apart) for each in curves)
            for name in parameters
        },
        apart=apart,
        processor=processor_name() if settings.device == "cpu" else torch.cuda.get_device_name(settings.device),
        torch=torch.__version__,
    )


def _compare(
    curves: Curves, base: str, other: str, modalities: tuple[str, ...], settings: Settings, *, timed: bool
) -> Comparison:
    training, held_out = {}, {}
    steps, width = list(range(1, settings.steps + 1)), window(settings.steps)
    for place, name in enumerate(modalities):
        mine, theirs = (smooth(column(curves.losses[system], place), width) for system in (base, other))
        training[name] = match(steps, mine, theirs)
        mine, theirs = (column(curves.held_out[system], place) for system in (base, other))
        held_out[name] = match(eval_steps(settings), mine, theirs)
    times = [_median(curves.seconds[system]) for system in (base, other)]
    step_time = None if not timed or times[0] is None or times[1] is None else times[1] / times[0]
    return Comparison(seed=curves.seed, training=training, held_out=held_out, step_time=step_time)


def window(steps: int) -> int:
    """Steps in the mean that smooths training losses."""
    return max(1, round(SMOOTHED * steps))


def eval_steps(settings: Settings) -> list[int]:
    """The steps after which held-out losses are taken."""
    steps = list(range(settings.eval_every, settings.steps + 1, settings.eval_every))
    return steps if steps and steps[-1] == settings.steps else [*steps, settings.steps]


def column(rows: list[list[float]], place: int) -> list[float]:
    """One modality's losses."""
    return [row[place] for row in rows]


def _median(seconds: list[float]) -> float | None:
    timed = [second for second in seconds if not math.isnan(second)]
    return statistics.median(timed) if timed else None
