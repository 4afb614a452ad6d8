"""The outline of a `.mot` text, by a reader that passes over what it does not understand."""

from __future__ import annotations

import re
from typing import NamedTuple

from motc.lsp.outline import Block, Outline, Path, Role, Word
from motc.schema.keys import STATEMENTS
from motc.source import SourceFile
from motc.syntax.mot_reader import MAX_DEPTH

_TOKEN = re.compile(r'(?:[ \t\r]+|#[^\n]*)*+(?:(?P<string>"(?:[^"\\\n]|\\.)*"?)|(?P<word>[\w.*+-]+)|(?P<mark>.|\n))')
_KEYS = {statement: key for key, statement in STATEMENTS.items()} | {"layer": "by_layer", "untie": "untie"}
_END = ""


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def mot_outline(source: SourceFile) -> Outline:
    """The outline of a text; whatever it is, nothing is raised."""
    return _Reader(source).outline()


class _Reader:
    """Tokens to words with their paths; `at` is the next token."""

    def __init__(self, source: SourceFile) -> None:
        self.source = source
        self.tokens = [
            _Token(kind, match[kind], match.start(kind), match.end())
            for match in _TOKEN.finditer(source.text)
            if (kind := match.lastgroup)
        ]
        self.tokens.append(_Token("mark", _END, len(source.text), len(source.text)))
        self.at = 0
        self.words: list[Word] = []
        self.blocks: list[Block] = []

    def outline(self) -> Outline:
        self.skip_lines()
        if self.next.text == "model":
            start = self.take("key", ("model",)).start
            if self.is_word():
                self.take("value", ("model",))
            if self.next.text == "{":
                self.braces((), start)
        while self.next.text != _END:  # what stands before the model, or after it
            self.statements(())
            self.at += self.next.text != _END
        return Outline(source=self.source, words=tuple(self.words), blocks=tuple(self.blocks))

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def is_word(self) -> bool:
        return self.next.kind in ("word", "string")

    def take(self, role: Role, path: Path) -> Word:
        token = self.next
        self.at += 1
        word = Word(text=token.text, start=token.start, end=token.end, path=path, role=role)
        self.words.append(word)
        return word

    def skip_lines(self) -> None:
        while self.next.text == "\n":
            self.at += 1

    def braces(self, path: Path, start: int) -> None:
        """A block, to its end or the text's."""
        self.at += 1
        self.statements(path)
        self.close(path, start)

    def close(self, path: Path, start: int) -> None:
        end = self.next.end if self.next.text in ("}", "]") else self.tokens[self.at - 1].end
        self.at += self.next.text in ("}", "]")
        self.blocks.append(Block(path=path, start=start, end=end))

    def statements(self, path: Path) -> None:
        """Statements up to a closing brace, which stays."""
        counts = {"untie": 0, "by_layer": 0}
        while self.next.text not in ("}", _END):
            if not self.is_word() or len(path) > MAX_DEPTH:
                self.at += 1
                continue
            text, following = self.next.text, self.tokens[self.at + 1].text
            key = _KEYS.get(text, "")
            if text == "layers" and not path and following not in ("=", "{") and not following[:1].isdigit():
                self.setting(path)  # a key whose value is still to come
            elif not key or following == "=":
                self.setting(path)
            elif key == "modalities":
                self.modalities((*path, key))
            elif key == "towers":
                self.tower((*path, key))
            else:
                place = (*path, key, counts[key])
                counts[key] += 1
                if key == "untie":
                    self.untie(place)
                else:
                    self.layers(place)

    def setting(self, path: Path) -> None:
        key = self.next.text
        below = (*path, key.strip('"'))
        start = self.take("key", below).start
        if self.next.text == "=":
            self.at += 1
            self.value(below, start)
        elif self.next.text == "{":
            self.braces(below, start)
        elif key == "extends" and self.is_word():
            self.take("value", below)

    def value(self, path: Path, start: int) -> None:
        match self.next.text:
            case "{":
                self.braces(path, start)
            case "[":
                self.list(path, start)
            case _ if self.is_word():
                self.take("value", path)
            case _:
                pass

    def list(self, path: Path, start: int) -> None:
        self.at += 1
        index = 0
        while self.next.text not in ("]", "}", _END) and len(path) <= MAX_DEPTH:
            before = self.at
            self.value((*path, index), self.next.start)
            if self.next.text == ",":
                index += 1
                self.at += 1
            elif self.at == before:  # a new line, or what does not belong here
                self.at += 1
        self.close(path, start)

    def modalities(self, path: Path) -> None:
        self.take("key", path)
        while self.is_word():
            name = self.next.text.strip('"')
            start = self.take("name", (*path, name)).start
            if self.next.text == "{":
                self.braces((*path, name), start)
            if not self.comma():
                return

    def tower(self, path: Path) -> None:
        start = self.take("key", path).start
        if not self.is_word():
            return
        here = (*path, self.next.text.strip('"'))
        self.take("name", here)
        if self.next.text == "=":
            self.at += 1
            self.names((*here, "modalities"))
        if self.next.text == "{":
            self.braces(here, start)

    def untie(self, path: Path) -> None:
        start = self.take("key", path).start
        self.names((*path, "groups"))
        if self.next.text == "as":
            self.take("key", (*path, "as"))
            index = 0
            while self.next.text == "{":
                self.at += 1
                self.skip_lines()
                self.names((*path, "as", index))
                self.skip_lines()
                self.at += self.next.text == "}"
                index += 1
        if self.next.text == "in":
            self.at += 1
            if self.next.text in ("layers", "layer"):
                self.take("key", (*path, "layers"))
                self.range((*path, "layers"))
        self.blocks.append(Block(path=path, start=start, end=self.tokens[self.at - 1].end))

    def layers(self, path: Path) -> None:
        start = self.take("key", path).start
        self.range((*path, "layers"))
        if self.next.text == "{":
            self.braces(path, start)

    def range(self, path: Path) -> None:
        """`3`, `0..3` or `0..9 step 3`."""
        while self.is_word():
            self.take("value", path)

    def names(self, path: Path) -> None:
        index = 0
        while self.is_word():
            self.take("value", (*path, index))
            index += 1
            if not self.comma():
                return

    def comma(self) -> bool:
        """Whether a comma comes, after which a list goes on, on the next line too."""
        if self.next.text != ",":
            return False
        self.at += 1
        self.skip_lines()
        return True
