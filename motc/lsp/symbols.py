"""The parts of a text: what an editor lists, and what it can fold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from motc.lsp.outline import Outline, Word

SymbolKind = Literal["model", "modality", "tower", "statement", "section", "key"]


@dataclass(slots=True, kw_only=True)
class Symbol:
    """A part from `start` to `end`, its name from `at` to `at_end`, and the parts in it."""

    name: str
    detail: str
    kind: SymbolKind
    start: int
    end: int
    at: int
    at_end: int
    children: list[Symbol] = field(default_factory=list)


def symbols(outline: Outline) -> list[Symbol]:
    """The parts of a text, in its order."""
    top: list[Symbol] = []
    open_: list[Symbol] = []
    for symbol in sorted(_flat(outline), key=lambda each: (each.start, -each.end)):
        while open_ and open_[-1].end < symbol.end:
            open_.pop()
        (open_[-1].children if open_ else top).append(symbol)
        open_.append(symbol)
    return top


def folds(outline: Outline) -> list[tuple[int, int]]:
    """The first and last line, from 0, of what takes several."""
    lines: dict[int, int] = {}
    for block in outline.blocks:
        first, last = (outline.source.line_and_column(offset)[0] - 1 for offset in (block.start, block.end))
        if last > first:
            lines[first] = max(last, lines.get(first, 0))
    return sorted(lines.items())


def _flat(outline: Outline) -> list[Symbol]:
    blocks = {block.start: block for block in reversed(outline.blocks)}
    parts: list[Symbol] = []
    for index, word in enumerate(outline.words):
        if word.role == "value" or (word.path[0] == "untie" and len(word.path) != 2):
            continue
        block = blocks.get(word.start)
        value = outline.words[index + 1] if index + 1 < len(outline.words) else None
        is_value = value is not None and value.role == "value" and value.path[: len(word.path)] == word.path
        end = max(word.end, block.end if block else 0, value.end if value and is_value and not block else 0)
        kind = _kind(word, block is not None)
        if kind is None:
            continue
        text = outline.source.text[word.start : end].split("\n")[0].split("{")[0].strip()
        name = text if kind == "statement" else word.shown
        detail = value.shown if value is not None and is_value and kind in ("key", "model") else ""
        parts.append(
            Symbol(name=name, detail=detail, kind=kind, start=word.start, end=end, at=word.start, at_end=word.end)
        )
    return parts


def _kind(word: Word, has_block: bool) -> SymbolKind | None:
    """What a word is the name of; None for a word of the syntax before what is named."""
    match word.path:
        case ("model",):
            return "model"
        case ("modalities" | "towers",) | (*_, "towers"):
            return None
        case (*_, "modalities" | "towers" as of, str()) if word.role == "name":
            return "modality" if of == "modalities" else "tower"
        case (*_, int()):
            return "statement"
        case _:
            return "section" if has_block else "key"
