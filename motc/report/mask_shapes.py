"""A mask as a small matrix: a row for each token of a short document, and the tokens that it sees filled."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from motc.ir.mask import Mask
from motc.report.grid import Grid
from motc.report.mask_picture import WINDOW, mask_picture
from motc.report.scene import Seen
from motc.report.shapes import Group, Rect, Shape, Text, fitted, wrapped

SIDE = 104.0
NAMES = 42.0
STRIP = 4.0
WIDTH = NAMES + STRIP + SIDE + 2
LINE = 12.0


def mask_height(seen: Seen) -> float:
    """How high the matrix is, with the words below."""
    return STRIP + SIDE + LINE * (len(_words(seen.mask)) + 1) + 6


def mask_shapes(seen: Seen, grid: Grid, x: float, y: float, title: str) -> Iterator[Shape]:
    """The matrix, whose left upper corner, with its names, is at (x, y)."""
    mask, picture = seen.mask, mask_picture(seen.mask, seen.modalities)
    size = SIDE / len(picture.tokens)
    detached = dict(mask.detach)
    left, top = x + NAMES + STRIP, y + LINE + STRIP
    shapes: list[Shape] = [Text(x, y + 7, title, "mask-title")]
    shapes.append(Rect(left, top, SIDE, SIDE, "mask-ground"))
    for i, row in enumerate(picture.sees):
        for (is_seen, name), places in groupby(range(len(row)), key=lambda j: (row[j], picture.tokens[j])):
            held = list(places)
            if is_seen:
                look = grid.look([name])
                kind = "mask-detached" if name in detached.get(picture.tokens[i], ()) else "mask"
                box = (left + held[0] * size + 0.4, top + i * size + 0.4, len(held) * size - 0.8, size - 0.8)
                shapes.append(Rect(*box, f"{look}-{kind}"))
    place = 0
    for name, run in groupby(picture.tokens):
        count = len(list(run))
        start, length = place * size, count * size
        look = f"{grid.look([name])}-strip"
        shapes.append(Rect(left + start + 0.5, top - STRIP - 1, length - 1, STRIP - 1, look))
        shapes.append(Rect(left - STRIP - 1, top + start + 0.5, STRIP - 1, length - 1, look))
        if length >= 8:
            label = fitted(name, NAMES - 4, 8.5)
            shapes.append(Text(left - STRIP - 4, top + start + length / 2 + 3, label, "mask-name", "end"))
        place += count
    for number, line in enumerate(_words(mask)):
        shapes.append(Text(x, top + SIDE + LINE * (number + 1) + 1, line, "note"))
    yield Group(f"Who sees whom: {mask}. A row is a token, filled are those that it sees.", tuple(shapes), look="mask")


def _words(mask: Mask) -> list[str]:
    told = str(mask)
    if mask.window is not None:
        told = told.replace(f"window {mask.window}", f"window {mask.window:,} (drawn as {min(mask.window, WINDOW)})")
    return [line for part in told.split(", ") for line in wrapped(part, WIDTH - 4, 10)]
