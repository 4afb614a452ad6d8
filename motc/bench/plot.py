"""The times of dense against the share of the last modality, as a picture."""

from __future__ import annotations

from typing import Any

from motc.bench.portable.cells import Cell
from motc.bench.report import Report
from motc.report.figures import content, empty, finish

COLOURS = {"forward": "#0072b2", "backward": "#d55e00", "step": "#009e73"}
DASHES = {"float32": "-", "bfloat16": "--"}
LABELS = {"forward": "forward", "backward": "forward + backward", "step": "forward + backward + AdamW"}


def plot(report: Report, kind: str) -> bytes:
    """A PNG or SVG file. Raises ImportError without matplotlib, ValueError where no two modalities were mixed."""
    return content(drawn(report), kind, dpi=150)


def drawn(report: Report) -> Any:
    """The figure. Raises as `plot` does."""
    cells = [cell for cell in report.cells if cell.share is not None]
    if not cells:
        raise ValueError("a plot needs data of two modalities, mixed by ratios")
    figure = empty(8, 4.8)
    axes = figure.add_subplot()
    axes.axhline(1.0, color="#444444", linewidth=1)
    for dtype, mode in dict.fromkeys((cell.dtype, cell.mode) for cell in cells):
        line = sorted(
            (cell for cell in cells if (cell.dtype, cell.mode) == (dtype, mode)), key=lambda cell: cell.share or 0.0
        )
        spreads = [cell.ratio("mot") for cell in line]
        shares = [100 * (cell.share or 0.0) for cell in line]
        colour = COLOURS[mode]
        axes.fill_between(
            shares, [s.low for s in spreads], [s.high for s in spreads], color=colour, alpha=0.12, linewidth=0
        )
        axes.plot(
            shares,
            [s.median for s in spreads],
            color=colour,
            linestyle=DASHES[dtype],
            marker="o",
            markersize=4,
            label=f"{LABELS[mode]}, {dtype}",
        )
    axes.set_xlabel(f"share of {_last(cells)} tokens, %")
    axes.set_ylabel("time, in times of the dense twin's")
    size = f"{report.batch} × {report.sequence} tokens"
    axes.set_title(f"{report.model}: {size}, {report.machine.processor}", fontsize=10)
    finish(axes, fontsize=8, ncols=2)
    return figure


def _last(cells: list[Cell]) -> str:
    """The modality whose share is varied: of those that have tokens anywhere, the last."""
    return next(name for name in reversed(list(cells[0].tokens)) if any(cell.tokens[name] for cell in cells))
