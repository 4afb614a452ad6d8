"""Panels: a kind of layer each, its sublayers one above the other, or side by side where they read the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from motc.report.boxes import SIGNS, bar_shapes, row_height, row_shapes
from motc.report.branches import fork_shapes, join_shapes, lane_shapes, plus_shapes, side_by_side, strip_height
from motc.report.grid import Grid
from motc.report.mask_shapes import WIDTH as MASK_WIDTH
from motc.report.mask_shapes import mask_height, mask_shapes
from motc.report.scene import Frame, Meeting, Panel, Row
from motc.report.shapes import Path, Rect, Shape, Text, fitted, plated, wrapped

BETWEEN_ROWS = 9.0
PLUS = 24.0
TITLE = 20.0
NOTE = 13.0
PADDING = 10.0
BETWEEN_FRAMES = 12.0
HEADER = 26.0
ASIDE = MASK_WIDTH + 14
MOST_NOTES = 12


def _masks_height(bar: Meeting) -> float:
    """How high the matrices beside a bar are."""
    return 8 + sum(mask_height(seen) + 10 for seen in (bar.seen_before, bar.seen) if seen is not None)


class PanelDrawer:
    """Draws panels on a grid."""

    def __init__(self, grid: Grid, is_diff: bool) -> None:
        self.grid, self.is_diff = grid, is_diff
        self.left, self.right = grid.left - PADDING, grid.right + PADDING + ASIDE + PADDING

    def height(self, panel: Panel) -> float:
        """How high a panel is."""
        frames = sum(self._height_of(frames) + BETWEEN_FRAMES for frames in side_by_side(panel.frames))
        return HEADER + NOTE * len(self._differs(panel)) + frames

    def right_of(self, panel: Panel) -> float:
        """Where a panel's frames end at the right."""
        most = max((len(frames) for frames in side_by_side(panel.frames)), default=1)
        return self.right + (most - 1) * self._pitch

    @property
    def _pitch(self) -> float:
        """How far sublayers that stand side by side are from one another."""
        return self.right - self.left + BETWEEN_FRAMES

    def shapes(self, panel: Panel, y: float) -> Iterator[Shape]:
        """The panel whose upper edge is at y."""
        look = f"panel {panel.status}" if self.is_diff else "panel"
        yield Rect(self.left - 8, y, self.right_of(panel) - self.left + 16, self.height(panel), look, 12)
        x, title = self.left + 4, f"{'layer' if panel.count == 1 else 'layers'} {panel.where}"
        alike = "" if panel.count == 1 else f"  ·  {panel.count} alike"
        if panel.letter:
            yield Rect(x, y + 6, 18, 16, "badge", 4)
            yield Text(x + 9, y + 18, panel.letter, "badge-name", "middle")
            x += 26
        sign = f"{SIGNS[panel.status]} " if panel.status != "same" else ""
        title = fitted(f"{sign}{title}{alike}", self.right - x - 8, 12.5)
        yield from plated(Text(x, y + 18.5, title, "panel-name"), 12.5, "plate-panel")
        for number, line in enumerate(self._differs(panel)):
            yield from plated(Text(x, y + HEADER + 6 + NOTE * number, line, "note"), 10, "plate-panel")
        y += HEADER + NOTE * len(self._differs(panel))
        for frames in reversed(side_by_side(panel.frames)):
            yield from self._frames(frames, y)
            y += self._height_of(frames) + BETWEEN_FRAMES

    def _differs(self, panel: Panel) -> list[str]:
        width = self.right - self.left - 40
        lines = [line for each in panel.differs for line in wrapped(each, width, 10.5)]
        kept = lines if len(lines) <= 5 else [*lines[:4], f"and {len(lines) - 4} more"]
        return [f"{'unlike A: ' if number == 0 else ''}{line}" for number, line in enumerate(kept)]

    def _aside(self, frame: Frame) -> list[Text | Meeting]:
        """What stands beside a sublayer's rows: notes, and who sees whom."""
        lines = [line for note in frame.notes for line in wrapped(note, MASK_WIDTH - 4, 10)]
        kept = lines if len(lines) <= MOST_NOTES else [*lines[: MOST_NOTES - 1], "…"]
        return [*(Text(0, 0, line, "note") for line in kept), *(row for row in frame.rows if isinstance(row, Meeting))]

    def _frame_height(self, frame: Frame) -> float:
        rows = sum(row_height(row) + BETWEEN_ROWS for row in frame.rows)
        aside = sum(NOTE if isinstance(each, Text) else _masks_height(each) for each in self._aside(frame))
        return max(TITLE + PLUS + rows + 4, aside + 14)

    def _height_of(self, frames: tuple[Frame, ...]) -> float:
        """How high sublayers are that stand side by side, with the streams that go past below and above them."""
        height = max(self._frame_height(frame) for frame in frames)
        return height if len(frames) == 1 else height + 2 * strip_height(self.grid)

    def _frames(self, frames: tuple[Frame, ...], y: float) -> Iterator[Shape]:
        """A sublayer, and those that stand beside it."""
        first, *others = frames
        if not others:
            yield from self._frame(first, y, y + self._frame_height(first))
            return
        strip = strip_height(self.grid)
        top, bottom = y + strip, y + self._height_of(frames) - strip
        yield from self._frame(first, top, bottom)
        before = first.rows[first.rows_before :]
        normed = top + TITLE + PLUS + sum(row_height(row) + BETWEEN_ROWS for row in before) - 2
        for number, frame in enumerate(others, 1):
            drawer = PanelDrawer(self.grid.moved(number * self._pitch), self.is_diff)
            yield from fork_shapes(self.grid, drawer.grid, frame, bottom, normed if frame.reads == "normed" else None)
            yield from drawer._frame(frame, top, bottom, is_beside=True)
            yield from join_shapes(self.grid, drawer.grid, frame, y)

    def _frame(self, frame: Frame, top: float, bottom: float, *, is_beside: bool = False) -> Iterator[Shape]:
        grid, y = self.grid, top
        look = f"frame {frame.status}" if self.is_diff else "frame"
        yield Rect(self.left, y, self.right - self.left, bottom - y, look, 9)
        if is_beside:
            yield from lane_shapes(grid, frame, top, bottom)
        sign = f"{SIGNS[frame.status]} " if frame.status != "same" else ""
        title = fitted(f"{sign}{frame.told}", grid.right - grid.left, 11.5)
        yield from plated(Text(grid.left, y + 15, title, "frame-name"), 11.5)
        yield from self._beside(frame, top + 8)
        y += TITLE
        shapes: list[Shape] = []
        rows = list(reversed(frame.rows))
        after, inner = rows[: frame.rows_after], rows[frame.rows_after :]
        for row in after:
            shapes += self._row(row, y)
            y += row_height(row) + BETWEEN_ROWS
        if not is_beside:
            yield from self._pasts(frame, y + PLUS / 2 - 2, bottom - 5)
        y += PLUS
        for row in inner:
            shapes += self._row(row, y)
            y += row_height(row) + BETWEEN_ROWS
        yield from shapes

    def _beside(self, frame: Frame, y: float) -> Iterator[Shape]:
        x = self.grid.right + PADDING + 10
        for each in self._aside(frame):
            if isinstance(each, Text):
                yield replace(each, x=x, y=y + 9)
                y += NOTE
                continue
            y += 8
            for seen, title in ((each.seen_before, "who saw whom"), (each.seen, "who sees whom")):
                if seen is not None:
                    yield from mask_shapes(seen, self.grid, x, y, title)
                    y += mask_height(seen) + 10

    def _row(self, row: Row | Meeting, y: float) -> Iterator[Shape]:
        if isinstance(row, Meeting):
            return bar_shapes(row, self.grid, y, self.is_diff)
        return row_shapes(row, self.grid, y, self.is_diff)

    def _pasts(self, frame: Frame, y: float, bottom: float) -> Iterator[Shape]:
        """What goes past a sublayer, and the sum of both."""
        for column in self.grid.columns:
            if column.name not in frame.joined:
                continue
            lane, tower = self.grid.lane(column.name), self.grid.tower_look(column.tower)
            past = self.grid.lefts[self.grid.names.index(column.name)] + 5
            yield Path(((lane, bottom), (past, bottom), (past, y), (lane - 7, y)), f"past {tower}-line")
            yield from plus_shapes(lane, y, tower)
