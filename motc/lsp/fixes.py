"""Ways out of mistakes that can be taken at a press of a key."""

from __future__ import annotations

from dataclasses import dataclass

from motc.lsp.analysis import Analysis
from motc.lsp.diagnostics import Shown, shown
from motc.source import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickFix:
    """What a complaint's way out says to write, and where."""

    title: str
    complaint: Shown
    span: Span
    text: str


def quick_fixes(analysis: Analysis, start: int, end: int) -> tuple[QuickFix, ...]:
    """The fixes of what is wrong between two offsets, as far as they are of this text."""
    told: list[QuickFix] = []
    for each in shown(analysis):
        fix = each.diagnostic.fix
        if fix is not None and fix.span.source.name == analysis.source.name and each.start <= end and start <= each.end:
            title = each.diagnostic.help.removeprefix("did you mean ").removesuffix("?")
            title = f"Write {title}" if title != each.diagnostic.help else title
            told.append(QuickFix(title=title, complaint=each, span=fix.span, text=fix.text))
    return tuple(told)
