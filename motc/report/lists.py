"""Lists of a page for those who read words first: who shares what, and what changed."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from motc.diff import Edit
from motc.report.account import Sharing
from motc.report.grid import Grid

KINDS = {"+": "added", "-": "removed", "~": "changed"}
"""What kinds of edits are called."""


def shares(each: Sequence[Sharing], grid: Grid) -> str:
    """Who shares what, in the colours of the drawing."""
    return f'<ul class="shares">{"".join(_share(one, grid) for one in each)}</ul>'


def _share(one: Sharing, grid: Grid) -> str:
    chips = "".join(
        f'<span class="block {grid.look(block)}-seg">{escape(", ".join(block))}</span>' for block in one.blocks
    )
    how = "each their own" if len(one.blocks) > 1 else "share" if len(one.blocks[0]) > 1 else "alone"
    where = f' <span class="where">in layers {escape(one.layers)}</span>' if one.layers else ""
    return f"<li>{chips}<b>{how}</b> {escape(', '.join(one.groups))}{where}</li>"


def changes(edits: Sequence[Edit]) -> str:
    """What turns one model into another, a mark and a line each."""
    if not edits:
        return "<p>Nothing: they are the same model.</p>"
    lines = (f'<li><span class="mark {KINDS[e.kind]}">{e.kind}</span> {escape(e.describe())}</li>' for e in edits)
    return f'<ul class="edits">{"".join(lines)}</ul>'
