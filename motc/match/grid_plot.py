"""A grid's losses as a picture: against learning rates, and each system's best against what it cost."""

from __future__ import annotations

from typing import Any

from motc.match.grid import mean_losses
from motc.match.grid_report import GridReport
from motc.match.plot import look
from motc.report.figures import content, empty, finish


def plot_grid(report: GridReport) -> bytes:
    """A PNG. Above, for each horizon, mean loss against rate; below, a row for each modality: the loss at the end, at
    each system's best rate, against steps, FLOPs and seconds, a point for each horizon. Raises ImportError without
    matplotlib.
    """
    modalities, horizons = report.data.modalities, report.horizons
    rows, columns = 1 + len(modalities), max(3, len(horizons))
    figure = empty(4.6 * columns, 3.6 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, steps in zip(grid[0], horizons, strict=False):
        _rates(axes, report, steps)
    for row, modality in zip(grid[1:], modalities, strict=True):
        _ends(row, report, modality)
    for axes in grid.flat:
        if axes.lines:
            finish(axes)
        else:
            axes.set_visible(False)
    return content(figure)


def _look(report: GridReport, system: str) -> dict[str, Any]:
    return {**look(list(report.models).index(system)), "label": system}


def _rates(axes: Any, report: GridReport, steps: int) -> None:
    for system in report.systems(steps):
        losses = mean_losses(report.results, system, steps)
        axes.plot(list(losses), list(losses.values()), **_look(report, system))
    axes.set_xscale("log")
    axes.set_title(f"{steps:,} steps: mean held-out loss", fontsize=10)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("nats a token")


def _ends(row: Any, report: GridReport, modality: str) -> None:
    """The loss at the end against three costs, of each horizon."""
    for system in report.models:
        points = []
        for steps in report.horizons:
            if system in report.systems(steps):
                ends = report.best_ends(system, steps, modality)
                seconds = report.seconds(system, steps)
                if ends and seconds is not None:
                    points.append((steps, steps * report.flops(system), steps * seconds, sum(ends) / len(ends)))
        if points:
            *costs, losses = zip(*points, strict=True)
            for axes, cost in zip(row, costs, strict=False):
                axes.plot(cost, losses, **_look(report, system))
    for axes, unit in zip(row, ("steps", "FLOPs", "seconds"), strict=False):
        axes.set_xscale("log")
        axes.set_title(f"{modality}: held-out loss at the end", fontsize=10)
        axes.set_xlabel(unit)
        axes.set_ylabel("nats a token")
