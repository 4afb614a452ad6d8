"""A drawing as SVG: by itself, with its colours, or as a part of a page that has them."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import assert_never

from motc.report.palette import FONT, rules, themes
from motc.report.shapes import Circle, Drawing, Group, Path, Rect, Shape, Text

SCOPE = ".motc-drawing"


def standalone(drawing: Drawing) -> str:
    """A file of its own, in the light colours on white."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{_with_colours(drawing)}\n'


def embedded(drawing: Drawing) -> str:
    """A part of a page of others, such as a notebook's: with its own colours, whatever the page has."""
    return f'<div style="overflow-x:auto">{_with_colours(drawing)}</div>'


def _with_colours(drawing: Drawing) -> str:
    light, _ = themes()
    style = rules(light.__getitem__, SCOPE)
    ground = f'<rect width="100%" height="100%" fill="{light["paper"]}"/>'
    return _svg(drawing, f"<style>{style}</style>{ground}", namespace=True)


def inline(drawing: Drawing) -> str:
    """An element of a page whose style has the rules."""
    return _svg(drawing, "", namespace=False)


def _svg(drawing: Drawing, start: str, *, namespace: bool) -> str:
    width, height = _number(drawing.width), _number(drawing.height)
    xmlns = ' xmlns="http://www.w3.org/2000/svg"' if namespace else ""
    head = (
        f'<svg{xmlns} class="motc-drawing" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="group" aria-label="{escape(drawing.title)}" font-family="{escape(FONT)}">'
    )
    words = f"<title>{escape(drawing.title)}</title><desc>{escape(drawing.told)}</desc>"
    return "\n".join([head, words, start, *_all(drawing.shapes), "</svg>"])


def _all(shapes: Iterable[Shape]) -> list[str]:
    return [_shape(shape) for shape in shapes]


def _shape(shape: Shape) -> str:
    match shape:
        case Rect(x, y, width, height, look, radius):
            rounded = f' rx="{_number(radius)}"' if radius else ""
            size = f'width="{_number(width)}" height="{_number(height)}"'
            return f'<rect class="{look}" x="{_number(x)}" y="{_number(y)}" {size}{rounded}/>'
        case Text(x, y, text, look, anchor):
            anchored = "" if anchor == "start" else f' text-anchor="{anchor}"'
            return f'<text class="{look}" x="{_number(x)}" y="{_number(y)}"{anchored}>{escape(text)}</text>'
        case Circle(x, y, radius, look):
            return f'<circle class="{look}" cx="{_number(x)}" cy="{_number(y)}" r="{_number(radius)}"/>'
        case Path(points, look, closed):
            way = " ".join(f"{'ML'[bool(place)]}{_number(x)} {_number(y)}" for place, (x, y) in enumerate(points))
            return f'<path class="{look}" d="{way}{"Z" if closed else ""}"/>'
        case Group(told, shapes, key, look):
            pointed = f' data-key="{escape(key)}" role="img" aria-label="{escape(told)}"' if key else ""
            looks = f' class="{look}"' if look else ""
            return f"<g{looks}{pointed}><title>{escape(told)}</title>{''.join(_all(shapes))}</g>"
        case _:
            assert_never(shape)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
