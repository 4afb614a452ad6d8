"""Bars of where parameters and FLOPs go, a piece for each section and whoever has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from motc.ir.inventory import SECTIONS
from motc.report.details import Detail
from motc.report.grid import Grid
from motc.report.words import short

Piece = tuple[str, str, int]
"""A section, what its owners look like, and how much it is."""


def section_of(path: str) -> str:
    """The section of a group, or what it is called outside the layers."""
    return next((name for name, paths in SECTIONS.items() if path in paths), path)


def bars(rows: Sequence[tuple[str, Sequence[Piece]]], title: str) -> str:
    """Bars one under another, their lengths in proportion."""
    longest = max((sum(amount for _, _, amount in pieces) for _, pieces in rows), default=0) or 1
    lines = []
    for name, pieces in rows:
        total = sum(amount for _, _, amount in pieces)
        told = ", ".join(f"{section} {amount / (total or 1):.0%}" for section, _, amount in pieces if amount)
        parts = "".join(_piece(piece, total, longest) for piece in pieces if piece[2])
        label = f"{name} {short(total)}: {told}"
        lines.append(
            f'<div class="bar-row"><span class="bar-name">{escape(name)}</span>'
            f'<div class="bar-line" role="img" aria-label="{escape(label)}">{parts}</div>'
            f'<span class="bar-total">{short(total)}</span></div>'
        )
    return f'<figure class="bars"><figcaption>{escape(title)}</figcaption>{"".join(lines)}</figure>'


def _piece(piece: Piece, total: int, longest: int) -> str:
    section, look, amount = piece
    share = amount / longest
    label = f"{section} {amount / total:.0%}" if share > 0.09 else section if share > 0.055 else ""
    title = f"{section}: {amount:,} ({amount / total:.1%})"
    return f'<span class="seg {look}-seg" style="width:{share:.4%}" title="{escape(title)}">{escape(label)}</span>'


def pieces(
    details: Iterable[Detail], grid: Grid, modality: str | None, names: Mapping[str, str] | None = None
) -> list[Piece]:
    """The parameters of all copies, or the FLOPs of a token of one modality, by section and owner; the grid's columns
    are called as `names` has it.
    """
    called = names or {}
    amounts: dict[tuple[str, str], int] = {}
    for each in details:
        cell = each.cell
        if cell.status == "removed" or (modality is not None and modality not in cell.modalities):
            continue
        amount = (each.parameters if modality is None else each.flops) * cell.place.count
        key = (section_of(cell.path), grid.look([called.get(name, name) for name in cell.modalities]))
        amounts[key] = amounts.get(key, 0) + amount
    order = list(dict.fromkeys(section for section, _ in amounts))
    sizes = {section: sum(a for (s, _), a in amounts.items() if s == section) for section in order}
    ranked = sorted(amounts.items(), key=lambda item: (-sizes[item[0][0]], order.index(item[0][0])))
    return [(section, look, amount) for (section, look), amount in ranked]
