"""Figures of matplotlib that look alike, and their files."""

from __future__ import annotations

import io
from typing import Any


def empty(width: float, height: float) -> Any:
    """A figure of so many inches, without a window. Raises ImportError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finish(axes: Any, **legend: Any) -> None:
    """What all axes have: a grid, two sides, a legend, of which more can be said."""
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, **{"fontsize": 7, **legend})


def content(figure: Any, kind: str = "png", dpi: int = 110) -> bytes:
    """A figure as a file: png or svg."""
    written = io.BytesIO()
    figure.savefig(written, format=kind, dpi=dpi)
    return written.getvalue()
