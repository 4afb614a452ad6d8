"""Complaints about a spec as its editor shows them: all at a place in the text that is open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from motc.lsp.analysis import Analysis
from motc.source import Diagnostic, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A complaint from `start` to `end`, with other places that take part, which may be in other files."""

    diagnostic: Diagnostic
    start: int
    end: int
    message: str
    related: tuple[tuple[str, Span], ...]


def shown(analysis: Analysis) -> tuple[Shown, ...]:
    """The complaints about a text, in its order. What is wrong in a spec that it extends stands at `extends`."""
    told = [_shown(analysis, each) for each in analysis.diagnostics]
    return tuple(sorted(told, key=lambda each: each.start))


def _shown(analysis: Analysis, diagnostic: Diagnostic) -> Shown:
    span, source = diagnostic.span, analysis.source
    message = diagnostic.message + (f"\n{diagnostic.help}" if diagnostic.help else "")
    related = diagnostic.related
    if span is not None and span.source.name == source.name:
        start, end = span.start, max(span.end, span.start + 1)
        end = min(end, source.text.find("\n", start + 1) % (len(source.text) + 1))  # what goes on below is not marked
    else:
        base = analysis.outline.keys.get(("extends",))
        start, end = (base.start, base.end) if base is not None else (0, len(source.line(1)))
        if span is not None:
            message, related = f"in {Path(span.source.name).name}: {message}", (("here", span), *related)
    return Shown(diagnostic=diagnostic, start=start, end=end, message=message, related=related)
