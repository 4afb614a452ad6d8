"""Sublayers side by side: how the streams of modalities come to those beside the first, and back into the sum."""

from __future__ import annotations

from collections.abc import Iterator

from motc.report.grid import Grid
from motc.report.scene import Frame
from motc.report.shapes import Circle, Path, Shape

PITCH = 7.0


def side_by_side(frames: tuple[Frame, ...]) -> list[tuple[Frame, ...]]:
    """The sublayers in order, those that read what the one before them does in one tuple with it."""
    rows: list[tuple[Frame, ...]] = []
    for frame in frames:
        if frame.reads == "stream" or not rows:
            rows.append((frame,))
        else:
            rows[-1] = (*rows[-1], frame)
    return rows


def strip_height(grid: Grid) -> float:
    """How much room streams take that go past below sublayers, or above them, one beneath another."""
    return PITCH * (len(grid.columns) + 1)


def fork_shapes(grid: Grid, beside: Grid, frame: Frame, y: float, branch: float | None) -> Iterator[Shape]:
    """From each stream to the same modality's lane in a frame beside the first; `y` is the strip's upper edge.

    `branch` is where the streams are left within the first frame, or None: below it.
    """
    for number, (column, level) in enumerate(_levels(grid, frame, y)):
        lane, other = grid.lane(column), beside.lane(column)
        look = _look(grid, column)
        if branch is None:
            yield Path(((lane, level), (other, level), (other, y)), look)
            yield Circle(lane, level, 2.5, f"{look} joint")
            continue
        start, down = branch - 1.5 * number, grid.right + 3 + 2.5 * number
        yield Path(((lane, start), (down, start), (down, level), (other, level), (other, y)), look)
        yield Circle(lane, start, 2.5, f"{look} joint")


def lane_shapes(grid: Grid, frame: Frame, top: float, bottom: float) -> Iterator[Shape]:
    """The lanes within a frame that stands beside another."""
    for column in frame.joined:
        lane = grid.lane(column)
        yield Path(((lane, bottom), (lane, top)), f"lane {_tower(grid, column)}-line")


def join_shapes(grid: Grid, beside: Grid, frame: Frame, y: float) -> Iterator[Shape]:
    """From each lane of a frame beside the first to the sum in the stream; `y` is the strip's upper edge."""
    for column, level in _levels(grid, frame, y):
        lane, other, look = grid.lane(column), beside.lane(column), _look(grid, column)
        yield Path(((other, y + strip_height(grid)), (other, level), (lane + 7, level)), look)
        yield from plus_shapes(lane, level, _tower(grid, column))


def plus_shapes(x: float, y: float, tower: str) -> Iterator[Shape]:
    """A sum, at its middle."""
    yield Circle(x, y, 7, f"plus {tower}-line")
    yield Path(((x - 3.5, y), (x + 3.5, y)), f"plus {tower}-line")
    yield Path(((x, y - 3.5), (x, y + 3.5)), f"plus {tower}-line")


def _levels(grid: Grid, frame: Frame, y: float) -> Iterator[tuple[str, float]]:
    """The modalities that a frame concerns, each with the height of its line in a strip."""
    for place, column in enumerate(grid.columns):
        if column.name in frame.joined:
            yield column.name, y + PITCH * (place + 1)


def _tower(grid: Grid, name: str) -> str:
    return grid.tower_look(grid.columns[grid.names.index(name)].tower)


def _look(grid: Grid, name: str) -> str:
    return f"past {_tower(grid, name)}-line"
