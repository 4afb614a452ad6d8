"""What is wrong with a spec, said so that its author can mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from motc.source.printable import columns, printable, shortened
from motc.source.span import Span
from motc.source.way_out import Fix, WayOut

LONGEST_LINE = 160
MOST_TOLD = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One complaint: a stable code, where, what is wrong, a way out, and other places that take part.

    `fix` is what the way out says to write, where it names that: a `WayOut` given as `help` does.

    A warning is about a spec that is right and may not be meant so; it stops nothing. What message and help quote is
    shortened where nobody would read it all.
    """

    code: str
    message: str
    span: Span | None
    help: str = ""
    related: tuple[tuple[str, Span], ...] = ()
    severity: Literal["error", "warning"] = "error"
    fix: Fix | None = None

    def __post_init__(self) -> None:
        if isinstance(self.help, WayOut) and self.fix is None:
            object.__setattr__(self, "fix", self.help.fix(self.span))
        for name in ("message", "help"):
            object.__setattr__(self, name, shortened(str(getattr(self, name))))

    def render(self) -> str:
        """`file:line:column: CODE message`, the line, a caret under the span, the related places, the way out.

        A warning says so: `CODE warning: message`. What does not print is escaped, so that no name or path in a spec
        can drive the terminal of who reads about it.
        """
        where = f"{self.span}: " if self.span else ""
        parts = [printable(f"{where}{self.code} {'warning: ' if self.severity == 'warning' else ''}{self.message}")]
        if self.span:
            parts.append(_excerpt(self.span))
        for label, span in self.related:
            parts.append(f"{printable(f'{span}: {label}')}\n{_excerpt(span)}")
        if self.help:
            parts.append(f"  help: {printable(self.help)}")
        return "\n".join(parts)


def _excerpt(span: Span) -> str:
    """The line, a tab as one space, and carets under the span as far as it is on this line."""
    line, column = span.source.line_and_column(span.start)
    text = span.source.line(line).replace("\t", " ")
    before, marked, after = text[: column - 1], text[column - 1 :][: span.end - span.start], text[column - 1 :]
    if len(text) > LONGEST_LINE:  # keep a monstrous line readable around the caret
        before = before[-60:]
        after = after[: LONGEST_LINE - len(before)]
        marked = marked[: len(after)]
    before, marked, after = printable(before), printable(marked), printable(after)
    return f"    {before}{after}\n    {' ' * columns(before)}{'^' * max(1, columns(marked))}"


class SpecError(Exception):
    """The user's spec is wrong: 50 diagnostics in the order of the text, what is missing last, and how many `more`."""

    def __init__(self, *diagnostics: Diagnostic, more: int = 0) -> None:
        self.diagnostics = diagnostics[:MOST_TOLD]
        self.more = more + len(diagnostics) - len(self.diagnostics)
        told = [diagnostic.render() for diagnostic in self.diagnostics]
        super().__init__("\n".join([*told, untold(self.more)] if self.more else told))


def untold(more: int) -> str:
    """What stands behind the mistakes that are told."""
    return f"and {more:,} more {'mistakes' if more > 1 else 'mistake'}, not told here"


class CompilerBug(AssertionError):
    """motc broke one of its own rules; never the user's fault."""
