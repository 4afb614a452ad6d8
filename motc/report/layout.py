"""A scene to a drawing: from below to above what comes in, the layers by kind beside a ribbon of them all, and what is
made. Geometry only: what is drawn is decided in the scene, and what it looks like in the palette.
"""

from __future__ import annotations

from collections.abc import Iterator

from motc.report.boxes import row_height, row_shapes
from motc.report.grid import Grid
from motc.report.panels import BETWEEN_ROWS, PanelDrawer
from motc.report.scene import Scene
from motc.report.shapes import Drawing, Group, Path, Rect, Shape, Text, fitted, text_width

MARGIN = 18.0
RIBBON = 62.0
FUNNEL = 34.0
PILL = 54.0
TOWER = 26.0
BETWEEN_PANELS = 18.0
LEGEND = 30.0
TITLE = 54.0


def drawing(scene: Scene, told: str, subtitle: str = "") -> Drawing:
    """The drawing of a scene, of which `told` is an account in words; with a title if there is a subtitle."""
    grid = Grid.of(scene, MARGIN + RIBBON + FUNNEL + 10)
    drawer = PanelDrawer(grid, scene.is_diff)
    shapes: list[Shape] = []
    head = TITLE if subtitle else 0
    y = top = head + LEGEND
    shapes += _pills(scene, grid, y, above=True)
    y += PILL + 16
    for row in reversed(scene.after):
        shapes += row_shapes(row, grid, y, scene.is_diff)
        y += row_height(row) + BETWEEN_ROWS
    y += 10
    first = y
    spans: dict[int, tuple[float, float]] = {}
    for place in reversed(range(len(scene.panels))):
        panel = scene.panels[place]
        shapes += drawer.shapes(panel, y)
        spans[place] = (y, y + drawer.height(panel))
        y = spans[place][1] + BETWEEN_PANELS
    last = y - BETWEEN_PANELS
    ribbon = list(_ribbon(scene, first, last, spans, drawer.left - 8))
    y = last + 18
    for row in reversed(scene.before):
        shapes += row_shapes(row, grid, y, scene.is_diff)
        y += row_height(row) + BETWEEN_ROWS
    y += 10
    shapes += _pills(scene, grid, y, above=False)
    y += PILL + 10
    lanes = list(_lanes(grid, top + PILL, y - PILL - 10))
    shapes += _towers(scene, grid, y)
    y += TOWER
    grounds = list(_grounds(scene, grid, top - 6, y + 4))
    width = max((drawer.right_of(panel) for panel in scene.panels), default=drawer.right) + 8 + MARGIN
    legend = [*_legend(scene, grid, head)]
    if subtitle:
        legend.append(Text(MARGIN, 27, fitted(scene.name, width - 2 * MARGIN, 19), "title"))
        legend.append(Text(MARGIN, 45, fitted(subtitle, width - 2 * MARGIN, 12), "subtitle"))
    every = (*grounds, *ribbon, *_behind(shapes), *lanes, *_before(shapes), *legend)
    return Drawing(width=width, height=y + MARGIN, title=scene.name, told=told, shapes=every)


GROUNDS = ("panel", "frame")


def _is_ground(shape: Shape) -> bool:
    return isinstance(shape, Rect) and shape.look.split()[0] in GROUNDS


def _behind(shapes: list[Shape]) -> list[Shape]:
    """What is drawn behind the lanes of the modalities."""
    return [shape for shape in shapes if _is_ground(shape)]


def _before(shapes: list[Shape]) -> list[Shape]:
    return [shape for shape in shapes if not _is_ground(shape)]


def _lanes(grid: Grid, top: float, bottom: float) -> Iterator[Shape]:
    """The stream of each modality, all the way up."""
    for column in grid.columns:
        lane = grid.lane(column.name)
        gone = " gone" if column.status == "removed" else ""
        look = f"lane {grid.tower_look(column.tower)}-line{gone}"
        yield Path(((lane, bottom), (lane, top)), look)
        yield Path(((lane - 5, top + 9), (lane, top + 2), (lane + 5, top + 9)), look)


def _grounds(scene: Scene, grid: Grid, top: float, bottom: float) -> Iterator[Shape]:
    for place in range(len(scene.towers)):
        start, end = grid.tower_span(place)
        yield Rect(start - 4, top, end - start + 8, bottom - top, f"{grid.tower_look(place)}-ground", 10)


def _pills(scene: Scene, grid: Grid, y: float, *, above: bool) -> Iterator[Shape]:
    """What comes in of each modality, or what is made of it."""
    for left, column in zip(grid.lefts, grid.columns, strict=True):
        look = grid.tower_look(column.tower)
        name, lines = column.name, column.leaves if above else column.enters
        shapes: list[Shape] = [Rect(left + 14, y, grid.width - 14, PILL, f"pill {look}-pill", 12)]
        middle, room = left + (grid.width + 14) / 2, grid.width - 24
        down = 0.0 if len(lines) > 1 else 6.0
        shapes.append(Text(middle, y + down + 18, fitted(name, room, 13.5), "pill-name", "middle"))
        for number, line in enumerate(lines[:2]):
            shapes.append(Text(middle, y + down + 33 + 13 * number, fitted(line, room, 10), "pill-size", "middle"))
        status = f"pill-group {column.status}" if scene.is_diff else "pill-group"
        yield Group(f"{name}: {', '.join(lines)}", tuple(shapes), look=status)


def _towers(scene: Scene, grid: Grid, y: float) -> Iterator[Shape]:
    for place, tower in enumerate(scene.towers):
        start, end = grid.tower_span(place)
        look = grid.tower_look(place)
        words = f"width {tower.width:,}"
        if tower.name != tower.modalities[0]:
            words = f"tower {tower.name} · {words}"
        yield Path(((start + 14, y - 3), (start + 14, y + 3), (end, y + 3), (end, y - 3)), f"past {look}-line")
        yield Text((start + 14 + end) / 2, y + 19, fitted(words, end - start, 11), "tower-name", "middle")


def _ribbon(
    scene: Scene, top: float, bottom: float, spans: dict[int, tuple[float, float]], edge: float
) -> Iterator[Shape]:
    """All layers from below to above, each run of one kind a block, with what leads from it to its panel."""
    each = (bottom - top) / scene.layers
    x, right = MARGIN, MARGIN + RIBBON
    for run in scene.runs:
        upper, lower = bottom - (run.last + 1) * each, bottom - run.first * each
        if run.panel in spans:
            start, end = spans[run.panel]
            points = ((right, upper), (edge, start + 6), (edge, end - 6), (right, lower))
            yield Path(points, f"funnel kind{run.panel % 6}", closed=True)
    for run in scene.runs:
        upper, lower = bottom - (run.last + 1) * each, bottom - run.first * each
        where = str(run.first) if run.first == run.last else f"{run.first}..{run.last}"
        letter = scene.panels[run.panel].letter if run.panel < len(scene.panels) else "…"
        shapes: list[Shape] = [Rect(x, upper + 1, RIBBON, max(lower - upper - 2, 0.5), f"run kind{run.panel % 6}", 5)]
        if each >= 9:
            for layer in range(run.first + 1, run.last + 1):
                at = bottom - layer * each
                shapes.append(Path(((x + 4, at), (right - 4, at)), "run-line"))
        height, middle = lower - upper, (upper + lower) / 2
        if each >= 9 and (run.last - run.first) % 2:  # not on a line between two
            middle += each / 2
        label = " ".join(word for word in (letter, where) if word)
        if height >= 11:
            size = "run-name" if height >= 16 else "run-name small"
            shapes.append(
                Text(x + RIBBON / 2, (upper + lower) / 2 + 3.5, fitted(label, RIBBON - 6, 10), size, "middle")
            )
        yield Group(f"layers {where}{f', kind {letter}' if letter else ''}", tuple(shapes))


def _legend(scene: Scene, grid: Grid, y: float) -> Iterator[Shape]:
    """What the colours mean."""
    entries = [("shared-box", "shared by several towers")] if len(scene.towers) > 1 else []
    if len(scene.towers) <= 8:
        entries += [(f"{grid.tower_look(place)}-box", tower.name) for place, tower in enumerate(scene.towers)]
    if scene.is_diff:
        entries = [("swatch-added", "added"), ("swatch-removed", "removed"), ("swatch-changed", "changed"), *entries]
    x = MARGIN
    for look, word in entries:
        yield Rect(x, y + 4, 14, 12, f"box {look}", 3)
        yield Text(x + 19, y + 14, word, "legend")
        x += 19 + text_width(word, 11) + 14
