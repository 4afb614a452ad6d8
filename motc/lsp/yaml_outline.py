"""The outline of a YAML text, by a reader that passes over what it does not understand."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from motc.lsp.outline import Block, Outline, Path, Role, Word
from motc.schema.first_layers import STATEMENTS
from motc.source import SourceFile

_TOKEN = re.compile(
    r"""
      (?P<skip>[ \t]+ | (?:(?<=\s)|^)\#[^\n]*)
    | (?P<string>"(?:[^"\\\n]|\\.)*"? | '[^'\n]*'?)
    | (?P<line>\n)
    | (?P<mark>[{}\[\],] | :(?=[\s,}\]]|$) | -(?=\s|$))
    | (?P<word>(?:[^\s{}\[\],:\#"'] | :(?!\s|$) | (?<!\s)[\#"'] | [ ](?=step[ ]|\d+\s*(?:[,}\]\n\#]|$)))+)
    | (?P<other>.)
    """,  # a word may go on after a blank, as `0..9 step 3` does
    re.MULTILINE | re.VERBOSE,
)
NAMED = ("modalities", "towers")
"""The sections whose keys are names of the author's."""


@dataclass(slots=True)
class _Open:
    """A collection that is being read: in brackets, or by its indentation."""

    path: Path
    start: int
    indent: int
    flow: str = ""
    index: int = -1
    key: Path | None = None


@dataclass(slots=True)
class _Reader:
    source: SourceFile
    words: list[Word] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    open: list[_Open] = field(default_factory=list)
    end: int = 0

    def read(self) -> Outline:
        self.open = [_Open((), 0, 0)]
        tokens = [match for match in _TOKEN.finditer(self.source.text) if match.lastgroup != "skip"]
        is_first, start_of_line = True, 0
        for number, token in enumerate(tokens):
            text, start = token[0], token.start()
            if token.lastgroup == "line":
                is_first, start_of_line = True, token.end()
                continue
            if is_first and not self.open[-1].flow:
                self.dedent(start - start_of_line, is_item=text == "-")
            following = next((each[0] for each in tokens[number + 1 : number + 2]), "")
            if token.lastgroup == "mark":
                self.mark(text, start, start - start_of_line, token.end())
            elif token.lastgroup in ("word", "string"):
                self.word(text, start, token.end(), start - start_of_line, is_key=following == ":", is_first=is_first)
            is_first = False
            self.end = token.end()
        while len(self.open) > 1:
            self.close(self.end)
        return Outline(source=self.source, words=tuple(self.words), blocks=tuple(self.blocks))

    def dedent(self, column: int, *, is_item: bool) -> None:
        """Leave the collections that end before a line that begins at this column."""
        while len(self.open) > 1:
            top = self.open[-1]
            if column > top.indent or (column == top.indent and (is_item or top.index < 0)):
                return
            self.close(self.end)

    def below(self) -> Path:
        """Where a value stands that comes next."""
        top = self.open[-1]
        if top.index >= 0:
            return (*top.path, top.index)
        return top.key if top.key is not None else top.path

    def mark(self, text: str, start: int, column: int, end: int) -> None:
        top = self.open[-1]
        match text:
            case "{":
                self.open.append(_Open(self.below(), start, column, "}"))
            case "[":
                self.open.append(_Open(self.below(), start, column, "]", index=0))
            case "}" | "]":
                while len(self.open) > 1 and not self.open[-1].flow:
                    self.close(start)
                if len(self.open) > 1:
                    self.close(end)
            case "," if top.index >= 0:
                top.index += 1
            case ",":
                top.key = None
            case "-" if not top.flow:
                if top.index >= 0 and top.indent == column:
                    top.index += 1
                else:
                    self.open.append(_Open(self.below(), start, column, index=0))
            case _:
                pass

    def word(self, text: str, start: int, end: int, column: int, *, is_key: bool, is_first: bool) -> None:
        top = self.open[-1]
        if is_first and not top.flow and top.index < 0 and column == top.indent:
            is_key = True  # or is to be one
        if not is_key:
            self.add(text, start, end, self.below(), "value")
            return
        if not top.flow and (top.index >= 0 or column > top.indent):
            top = _Open(self.below(), start, column)
            self.open.append(top)
        elif top.flow and top.index >= 0:  # `[a: 1]`, which is one mapping
            top = _Open((*top.path, top.index), start, column, top.flow)
        top.key = (*top.path, text.strip("\"'"))
        is_name = len(top.path) > 0 and top.path[-1] in NAMED
        self.add(text, start, end, top.key, "name" if is_name else "key")

    def add(self, text: str, start: int, end: int, path: Path, role: Role) -> None:
        place = _statement(path)
        if len(place) == 2 and place[0] == "modalities" and role == "value" and isinstance(place[1], int):
            place, role = ("modalities", text.strip("\"'")), "name"
        if len(place) == 2 and place[0] == "untie" and role == "value":
            place = (*place, "groups", 0)
        self.words.append(Word(text=text, start=start, end=end, path=place, role=role))

    def close(self, end: int) -> None:
        done = self.open.pop()
        key = next((word for word in reversed(self.words) if word.path == done.path and word.start < done.start), None)
        start = key.start if key is not None else done.start
        self.blocks.append(Block(path=_statement(done.path), start=start, end=end))


def yaml_outline(source: SourceFile) -> Outline:
    """The outline of a text; whatever it is, nothing is raised."""
    return _Reader(source).read()


def _statement(path: Path) -> Path:
    """The path of a lone statement as that of the first of a list, which `normalise` makes of it."""
    if path and path[0] in STATEMENTS and len(path) > 1 and not isinstance(path[1], int):
        return (path[0], 0, *path[1:])
    return path
