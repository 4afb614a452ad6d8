"""Figures of matplotlib in a page: in its colours, with the command that makes each."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from html import escape
from typing import Any

INK = ("#000000", "#444444")
"""What is drawn in these is drawn in the page's own ink, light or dark."""


def plots(figures: Iterable[tuple[str, Any]], command: str) -> str:
    """Titled figures side by side, where there is room. Raises ImportError without matplotlib."""
    made = (
        f'<figure class="plot">{_svg(figure, title)}{_caption(title, command)}</figure>' for title, figure in figures
    )
    return f'<div class="plots">{"".join(made)}</div>'


def _caption(title: str, command: str) -> str:
    return f"<figcaption>{escape(title)}<code>{escape(command)}</code></figcaption>"


def _svg(figure: Any, title: str) -> str:
    """A figure as an element: text as text, no ground, and the ids alone that something refers to."""
    from matplotlib import rc_context

    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    written = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    text = written.getvalue()
    text = re.sub(r"<metadata>[\s\S]*?</metadata>", "", text[text.index("<svg") :])
    used = set(re.findall(r"#([\w.-]+)", text))
    text = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", text)
    for ink in INK:
        text = re.sub(rf"(fill|stroke): {ink}", r"\1: currentColor", text)
    width, height = (float(number) for number in re.findall(r'(?:width|height)="([\d.]+)pt"', text)[:2])
    head = f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {width:g} {height:g}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return head + text[text.index(">") + 1 :]
