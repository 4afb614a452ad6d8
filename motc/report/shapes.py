"""What a drawing is made of, as data: shapes with places in pixels, the y axis going down, and what they look like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Rect:
    """`look` is one or several words of `motc.report.palette`; so everywhere."""

    x: float
    y: float
    width: float
    height: float
    look: str
    radius: float = 0


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text whose baseline is at y."""

    x: float
    y: float
    text: str
    look: str
    anchor: Anchor = "start"


@dataclass(frozen=True, slots=True)
class Circle:
    x: float
    y: float
    radius: float
    look: str


@dataclass(frozen=True, slots=True)
class Path:
    """Straight lines from point to point."""

    points: tuple[tuple[float, float], ...]
    look: str
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Shapes that belong together; `told` says in words what they are. With a `key` they can be pointed at."""

    told: str
    shapes: tuple[Shape, ...]
    key: str = ""
    look: str = ""


Shape = Rect | Text | Circle | Path | Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A whole picture; `title` is what it is of, and `told` the same in words."""

    width: float
    height: float
    title: str
    told: str
    shapes: tuple[Shape, ...]


def flat(shapes: Iterable[Shape]) -> Iterator[Rect | Text | Circle | Path]:
    """All shapes, those within groups too."""
    for shape in shapes:
        if isinstance(shape, Group):
            yield from flat(shape.shapes)
        else:
            yield shape


def moved(shape: Shape, dy: float) -> Shape:
    """The shape further down."""
    match shape:
        case Rect() | Text() | Circle():
            return replace(shape, y=shape.y + dy)
        case Path():
            return replace(shape, points=tuple((x, y + dy) for x, y in shape.points))
        case Group():
            return replace(shape, shapes=tuple(moved(each, dy) for each in shape.shapes))


NARROW = frozenset("iljtfrI.,:;'|!()[]{} ·-")
WIDE = frozenset("mwMW→≈×%@")


def text_width(text: str, size: float) -> float:
    """About how wide a text is, in any of the usual sans-serif fonts, rather too much than too little."""
    units = sum(0.33 if c in NARROW else 0.89 if c in WIDE else 0.68 if c.isupper() else 0.575 for c in text)
    return units * size


def plated(line: Text, size: float, look: str = "plate") -> tuple[Rect, Text]:
    """A line of text that begins at x, and behind it a plate that hides what is drawn there."""
    return Rect(line.x - 3, line.y - size + 1, text_width(line.text, size) + 6, size + 3, look, 3), line


def fitted(text: str, width: float, size: float) -> str:
    """The text, or so much of its beginning as fits, and an ellipsis; nothing where not even a letter fits."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(f"{text}…", size) > width:
        text = text[:-1]
    return f"{text.rstrip()}…" if text else ""


def wrapped(text: str, width: float, size: float) -> list[str]:
    """The text in lines that are so wide at most, broken between words."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [fitted(line, width, size) for line in lines]
