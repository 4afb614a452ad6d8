"""Lines of canonical text, merged with the comments of the text they were read from.

A line knows which part of the source it comes from. A comment on a line of its own goes before the next line; one at
the end of a line stays with what stands before it.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, replace

from motc.source import SourceFile

WIDTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of output, and the range of the source that it says again."""

    indent: int
    text: str
    start: int
    end: int
    closes: bool = False


class Comments:
    """The comments of one source, in order: `(offset, text)` from `#` to the end of the line."""

    def __init__(self, source: SourceFile | None = None, found: Iterable[tuple[int, str]] = ()) -> None:
        self.source = source
        self.found = tuple(found)
        self.starts = [start for start, _ in self.found]

    def within(self, start: int, end: int) -> bool:
        """Whether a comment starts in the range: what holds one is not put on one line."""
        at = bisect.bisect_left(self.starts, start)
        return at < len(self.starts) and self.starts[at] < end

    def merge(self, lines: list[Line]) -> str:
        """The final text."""
        lines = list(lines)
        before: dict[int, list[tuple[int, str]]] = {}
        starts, ends = [line.start for line in lines], [line.end for line in lines]
        for start, text in self.found:
            at = bisect.bisect_left(starts, start) - 1
            if at < 0 or self._begins_line(start):
                before.setdefault(bisect.bisect_right(ends, start), []).append((start, text.strip()))
            else:
                lines[at] = replace(lines[at], text=f"{lines[at].text}  {text.strip()}")
        output: list[tuple[int, str]] = []
        for index, line in enumerate(lines):
            for start, text in before.get(index, ()):
                self._put(output, line.indent + line.closes, text, start)
            self._put(output, line.indent, line.text, None if line.closes else line.start)
        for start, text in before.get(len(lines), ()):
            self._put(output, 0, text, start)
        return "".join(f"{'  ' * indent}{text}\n" if text else "\n" for indent, text in output)

    def _put(self, output: list[tuple[int, str]], indent: int, text: str, start: int | None) -> None:
        deeper = not output or indent > output[-1][0]
        if start is not None and not deeper and self._after_blank_line(start):
            output.append((indent, ""))
        output.append((indent, text))

    def _begins_line(self, start: int) -> bool:
        assert self.source is not None
        _, column = self.source.line_and_column(start)
        return not self.source.text[start - column + 1 : start].strip()

    def _after_blank_line(self, start: int) -> bool:
        if self.source is None:
            return False
        line, _ = self.source.line_and_column(start)
        return line > 1 and not self.source.line(line - 1).strip() and self._begins_line(start)
