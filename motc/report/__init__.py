"""What a model is, to look at: a drawing, and a page around it."""

from __future__ import annotations

from motc.diff import diff
from motc.ir.model import Model
from motc.report.account import account, subtitle, subtitle_of_diff
from motc.report.build import scene
from motc.report.layout import drawing
from motc.report.shapes import Drawing
from motc.report.svg import standalone

__all__ = ["drawn", "drawn_diff", "standalone"]


def drawn(model: Model) -> Drawing:
    """The drawing of a model, after the last pass."""
    return drawing(scene(model), account(model), subtitle(model))


def drawn_diff(before: Model, after: Model) -> Drawing:
    """The drawing of what turns a model into another: the later one, with what came, went and changed."""
    edits = diff(before, after)
    told = " ".join(f"{edit.kind} {edit.describe()}." for edit in edits) or "The same model."
    return drawing(scene(after, before), told, subtitle_of_diff(before, after))
