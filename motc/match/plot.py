"""The curves and how they match, as a picture: a row for each modality."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from motc.match.matching import smooth
from motc.match.report import Report, column
from motc.report.figures import content, empty, finish

COLOURS = ("#444444", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#9a6324")
LINES = ("-", "--", ":", "-.")  # after as many colours, what is drawn has the next


def plot(report: Report) -> bytes:
    """A PNG: losses against steps, matched steps, and matched time. Raises ImportError without matplotlib."""
    figure = empty(13, 3.6 * len(report.modalities))
    grid = figure.subplots(len(report.modalities), 3, squeeze=False)
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(report.parameters)}
    for modality, (losses, steps, time) in zip(report.modalities, grid, strict=True):
        _losses(losses, report, modality, colours)
        _matched(steps, report, modality, colours, time=False)
        _matched(time, report, modality, colours, time=True)
    for axes in grid.flat:
        finish(axes)
    return content(figure)


def panels(report: Report) -> Iterator[tuple[str, Any]]:
    """The same, each a titled figure. Raises ImportError without matplotlib."""
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(report.parameters)}
    draws: tuple[Callable[[Any, str], None], ...] = (
        lambda axes, modality: _losses(axes, report, modality, colours),
        lambda axes, modality: _matched(axes, report, modality, colours, time=False),
        lambda axes, modality: _matched(axes, report, modality, colours, time=True),
    )
    for modality in report.modalities:
        for draw in draws:
            figure = empty(5.4, 3.7)
            axes = figure.add_subplot()
            draw(axes, modality)
            finish(axes)
            title = axes.get_title()
            axes.set_title("")
            yield title, figure


def look(place: int) -> dict[str, Any]:
    """A line with points that is told from others by its place among them."""
    line = LINES[place // len(COLOURS) % len(LINES)]
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": line, "marker": ".", "linewidth": 1}


def _losses(axes: Any, report: Report, modality: str, colours: dict[str, str]) -> None:
    place = report.modalities.index(modality)
    steps = range(1, report.settings.steps + 1)
    for name, colour in colours.items():
        for curves in report.curves:
            training = smooth(column(curves.losses[name], place), report.window)
            label = name if curves is report.curves[0] else None
            axes.plot(steps, training, color=colour, linewidth=1, label=label)
            axes.plot(report.eval_steps, column(curves.held_out[name], place), color=colour, linestyle=":", linewidth=1)
    axes.set_title(f"{modality} (dotted: held-out)", fontsize=10)
    axes.set_xlabel("steps")
    axes.set_ylabel("loss, " + ("mean squared error" if modality in report.continuous else "nats a token"))


def _matched(axes: Any, report: Report, modality: str, colours: dict[str, str], *, time: bool) -> None:
    """Each system's steps (or seconds) to a loss, against the base's to it; below the base's own line is faster."""
    base_second = report.median_seconds(report.base) if time else 1.0
    end = report.settings.steps * (base_second or 1.0)
    axes.plot([0, end], [0, end], color="#bbbbbb", linewidth=1)
    for name, comparisons in report.comparisons.items():
        second = report.median_seconds(name) if time else 1.0
        if base_second is None or second is None or (time and name in report.apart):
            continue
        ratios = report.ratios(name, modality, "training_time" if time else "training")
        told = ", itself" if name == report.base else ""
        told += f" {sum(ratios) / len(ratios):.3f}" if ratios else ""
        for each in comparisons:
            matched = each.training[modality]
            axes.plot(
                [step * base_second for step in matched.base_steps],
                [step * second for step in matched.other_steps],
                color=colours[name],
                linewidth=1,
                label=f"{name}{told}" if each is comparisons[0] else None,
            )
        if ratios:
            slope = sum(ratios) / len(ratios)
            axes.plot([0, end], [0, slope * end], color=colours[name], linewidth=0.8, linestyle="--")
    unit = "seconds" if time else "steps"
    axes.set_title(f"{modality}: {unit} to the same training loss", fontsize=10)
    axes.set_xlabel(f"{unit} of {report.base}")
    axes.set_ylabel(unit)
