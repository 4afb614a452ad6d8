"""Lines of canonical text, merged with the comments of the text they were read from.

A line knows which part of the source it comes from. A comment on a line of its own goes before the next line; one at
the end of a line stays with what stands before it. In the other syntax, where statements that add up stand together,
lines may have another order than their parts of the source.
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

    def __init__(self, source: SourceFile | None = None, comments: Iterable[tuple[int, str]] = ()) -> None:
        self.source = source
        self.comments = tuple(comments)
        self.starts = [start for start, _ in self.comments]
        self.source_text = "" if source is None else source.text

    def within(self, start: int, end: int) -> bool:
        """Whether a comment starts in the range: what holds one is not put on one line."""
        at = bisect.bisect_left(self.starts, start)
        return at < len(self.starts) and self.starts[at] < end

    def follows(self, end: int) -> bool:
        """Whether a comment is what comes next on the line."""
        at = bisect.bisect_left(self.starts, end)
        return at < len(self.starts) and not self.source_text[end : self.starts[at]].strip(" \t")

    def merge(self, lines: list[Line]) -> str:
        """The final text."""
        lines = list(lines)
        before: dict[int, list[tuple[int, str]]] = {}
        order = sorted(range(len(lines)), key=lambda index: (lines[index].start, not lines[index].closes))
        starts, ends = [lines[index].start for index in order], [lines[index].end for index in order]
        for start, text in self.comments:
            at = bisect.bisect_left(starts, start) - 1
            if at < 0 or self._begins_line(start):
                following = bisect.bisect_right(ends, start)
                place = order[following] if following < len(order) else len(lines)
                before.setdefault(place, []).append((start, text.strip()))
            else:
                line = lines[order[at]]
                lines[order[at]] = replace(line, text=f"{line.text}  {text.strip()}")
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
