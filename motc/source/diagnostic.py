"""What is wrong with a spec, said so that its author can mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from motc.source.span import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One complaint: a stable code, where, what is wrong, a way out, and other places that take part.

    A warning is about a spec that is right and may not be meant so; it stops nothing.
    """

    code: str
    message: str
    span: Span | None
    help: str = ""
    related: tuple[tuple[str, Span], ...] = ()
    severity: Literal["error", "warning"] = "error"

    def render(self) -> str:
        """`file:line:column: CODE message`, the line, a caret under the span, the related places, the way out.

        A warning says so: `CODE warning: message`.
        """
        where = f"{self.span}: " if self.span else ""
        parts = [f"{where}{self.code} {'warning: ' if self.severity == 'warning' else ''}{self.message}"]
        if self.span:
            parts.append(_excerpt(self.span))
        for label, span in self.related:
            parts.append(f"{span}: {label}\n{_excerpt(span)}")
        if self.help:
            parts.append(f"  help: {self.help}")
        return "\n".join(parts)


def _excerpt(span: Span) -> str:
    line, column = span.source.line_and_column(span.start)
    text = span.source.line(line).expandtabs(1)
    width = max(1, min(span.end - span.start, len(text) - column + 1))
    if len(text) > 160:  # keep a monstrous line readable around the caret
        first = max(0, column - 60)
        text, column = text[first : first + 160], column - first
        width = max(1, min(width, len(text) - column + 1))
    return f"    {text}\n    {' ' * (column - 1)}{'^' * width}"


class SpecError(Exception):
    """The user's spec is wrong: one or more diagnostics, in the order of the text."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        self.diagnostics = diagnostics
        super().__init__("\n".join(diagnostic.render() for diagnostic in diagnostics))


class CompilerBug(AssertionError):
    """motc broke one of its own rules; never the user's fault."""
