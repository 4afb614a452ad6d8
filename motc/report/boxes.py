"""Rows of boxes: the copies of parameter groups, and the bar in which tokens meet."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from motc.report.grid import Grid
from motc.report.scene import Cell, Meeting, Names, Row, Status
from motc.report.shapes import Circle, Group, Path, Rect, Shape, Text, fitted, plated, text_width

TALL, THIN, EXPERTS = 36.0, 19.0, 26.0
SHARED, BENEATH = 16.0, 4.0
STACKED = 4.0
BAR = 36.0
WAS = 17.0
BETWEEN = 3.0
SIGNS: dict[Status, str] = {"same": "", "added": "+", "removed": "−", "changed": "~"}


def row_height(row: Row | Meeting) -> float:
    """How high a row is, with what it was beneath."""
    if isinstance(row, Meeting):
        return BAR
    return _boxes_height(row) + (WAS if row.was else 0)


def _boxes_height(row: Row) -> float:
    """How high its boxes are; those that share a box stand under a line that says by whom they are shared."""
    if row.is_thin:
        return THIN
    framed = any(len(names) > 1 and len(cells) > 1 for names, cells in _by_block(row))
    return TALL + (EXPERTS if any(cell.experts for cell in row.cells) else 0) + (SHARED + BENEATH if framed else 0)


def _by_block(row: Row) -> list[tuple[Names, list[Cell]]]:
    return [(names, list(cells)) for names, cells in groupby(row.cells, key=lambda cell: cell.modalities)]


def row_shapes(row: Row, grid: Grid, y: float, is_diff: bool) -> Iterator[Shape]:
    """The boxes of a row whose upper edge is at y."""
    height = _boxes_height(row)
    for names, cells in _by_block(row):
        pieces, look = grid.pieces(names), grid.look(names)
        if len(pieces) > 1:  # the copy is one, though other towers stand between
            middle = y + height / 2
            yield Path(((pieces[0][0], middle), (pieces[-1][1], middle)), f"bridge {look}-line")
        framed = len(cells) > 1 and len(names) > 1 and not row.is_thin
        for start, end in pieces if len(cells) > 1 else ():
            if framed:
                yield Rect(start, y, end - start, height, f"box outer {look}-box", 6)
                words = fitted(f"shared by {', '.join(names)}", end - start - 12, 9)
                yield Text((start + end) / 2, y + 11, words, "by", "middle")
            else:
                yield Rect(start + 8, y + 3, end - start - 16, height - 6, "plate")
        for place, cell in enumerate(cells):
            shapes: list[Shape] = []
            for start, end in pieces:
                if framed:
                    start, end = start + 4, end - 4
                width = (end - start - BETWEEN * (len(cells) - 1)) / len(cells)
                down = SHARED if framed else 0
                box = (start + place * (width + BETWEEN), y + down, width, height - down - (BENEATH if framed else 0))
                shapes += _box(cell, grid, *box, thin=row.is_thin, is_alone=not framed)
            status = f"cell {cell.status}" if is_diff else "cell"
            yield Group(told(cell), tuple(shapes), key=cell.key, look=f"{status} again" if cell.again else status)
    if row.was:
        yield from _was(row.was, grid, y + height)


def told(cell: Cell) -> str:
    """A copy in words: `attention.q of text: 16.4k parameters`, and what became of it."""
    whose = " and ".join(cell.modalities)
    became = {"same": "", "added": ", added", "removed": ", removed", "changed": ", changed"}[cell.status]
    several = "shared by" if len(cell.modalities) > 1 else "of"
    return f"{cell.path} {several} {whose}: {cell.told}{became}"


def _box(
    cell: Cell, grid: Grid, x: float, y: float, width: float, height: float, *, thin: bool, is_alone: bool
) -> Iterator[Shape]:
    look = grid.look(cell.modalities)
    if cell.stacked:
        y, width, height = y + STACKED, width - STACKED, height - STACKED
        for off in (STACKED, STACKED / 2):
            yield Rect(x + off, y - off, width, height, f"box {look}-box", 5)
    yield Rect(x, y, width, height, f"box {look}-box", 5)
    middle, room = x + width / 2, width - 8
    down = 0 if cell.experts else max(0, height - TALL) / 2  # where others of the row are in a frame
    if thin:
        yield Text(middle, y + height - 5.5, fitted(cell.label, room, 10), "thin-name", "middle")
    else:
        yield Text(
            middle, y + down + (13.5 if cell.stacked else 15.5), fitted(cell.label, room, 11.5), "name", "middle"
        )
        line = cell.told
        shared = f"{line} · shared by {', '.join(cell.modalities)}"
        if is_alone and len(cell.modalities) > 1 and text_width(shared, 10) <= room:
            line = shared
        yield Text(middle, y + down + (26.5 if cell.stacked else 29), fitted(line, room, 10), "size", "middle")
    if cell.experts:
        yield from _experts(*cell.experts, look, x + 8, y + TALL - 1, width - 16)
    if cell.status != "same":
        yield Circle(x + 1, y + 1, 6.5, f"sign-{cell.status}")
        yield Text(x + 1, y + 4.5, SIGNS[cell.status], "sign", "middle")


def _experts(count: int, active: int, look: str, x: float, y: float, width: float) -> Iterator[Shape]:
    """A square for each expert, of which as many are filled as a token goes to; as many as there is room for."""
    for pitch in (9.0, 7.0, 5.5, 4.5):
        each_row = max(1, int(width / pitch))
        rows = -(-count // each_row)
        if rows * pitch <= EXPERTS - 5:
            break
    else:
        rows = int((EXPERTS - 5) / pitch)
    shown = min(count, rows * each_row)
    wide = -(-shown // rows)
    start = x + (width - wide * pitch) / 2
    filled = {place * shown // active for place in range(active)} if active < shown else set(range(shown))
    for place in range(shown):
        line, column = divmod(place, wide)
        kind = "dot-on" if place in filled else "dot-off"
        yield Rect(start + column * pitch, y + line * pitch, pitch - 2, pitch - 2, f"{look}-{kind}", 1)


def _was(blocks: tuple[Names, ...], grid: Grid, y: float) -> Iterator[Shape]:
    """Under a row whose blocks changed: those that were."""
    for names in blocks:
        for start, end in grid.pieces(names):
            yield Path(((start, y + 3), (start, y + 7), (end, y + 7), (end, y + 3)), "was")
            words = f"was shared by {', '.join(names)}" if len(names) > 1 else f"was {names[0]}'s own"
            words = fitted(words, end - start - 12, 9)
            left = (start + end - text_width(words, 9)) / 2
            yield from plated(Text(left, y + 12.5, words, "was-name"), 9)


def bar_shapes(bar: Meeting, grid: Grid, y: float, is_diff: bool) -> Iterator[Shape]:
    """The one attention of all who meet."""
    pieces = grid.pieces(bar.modalities)
    shapes: list[Shape] = []
    if len(pieces) > 1:
        shapes.append(Rect(pieces[0][0], y + BAR / 2 - 3, pieces[-1][1] - pieces[0][0], 6, "meeting"))
    for start, end in pieces:
        middle = (start + end) / 2
        shapes.append(Rect(start, y, end - start, BAR, "meeting", 8))
        title = "one attention" if len(bar.modalities) > 1 else "attention"
        shapes.append(Text(middle, y + 15.5, fitted(title, end - start - 8, 12), "meeting-name", "middle"))
        shapes.append(Text(middle, y + 29, fitted(bar.told, end - start - 8, 10), "meeting-size", "middle"))
    if bar.status != "same":
        shapes.append(Circle(pieces[0][0] + 1, y + 1, 6.5, f"sign-{bar.status}"))
        shapes.append(Text(pieces[0][0] + 1, y + 4.5, SIGNS[bar.status], "sign", "middle"))
    look = f"bar {bar.status}" if is_diff else "bar"
    yield Group(f"attention of {', '.join(bar.modalities)}: {bar.told}, {bar.seen.mask}", tuple(shapes), look=look)
