"""Offsets in a text, and the lines and columns that editors count: from 0, and in units of UTF-16 unless agreed."""

from __future__ import annotations

from motc.source import SourceFile

UTF_16 = "utf-16"


def to_position(source: SourceFile, offset: int, encoding: str = UTF_16) -> tuple[int, int]:
    """The line and column of an offset in characters."""
    line, column = source.line_and_column(min(max(offset, 0), len(source.text)))
    before = source.text[source.line_starts[line - 1] :][: column - 1]
    return line - 1, _units(before, encoding)


def to_offset(source: SourceFile, line: int, column: int, encoding: str = UTF_16) -> int:
    """The offset of a line and column, or the nearest one that there is."""
    if line >= len(source.line_starts):
        return len(source.text)
    text = source.line(max(line, 0) + 1)
    at = 0
    while at < len(text) and _units(text[: at + 1], encoding) <= column:
        at += 1
    return source.line_starts[max(line, 0)] + at


def _units(text: str, encoding: str) -> int:
    if text.isascii() or encoding == "utf-32":
        return len(text)
    return len(text.encode("utf-8")) if encoding == "utf-8" else len(text.encode("utf-16-le")) // 2
