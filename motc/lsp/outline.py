"""The words of a spec as they stand, each with its place in the tree; of a text that is wrong, all that can be told.

The readers of `motc/syntax/` stop at the first mistake. While one types there is nearly always one, and keys are asked
about all the same. What is told here has the paths of the tree that the readers make, so that neither syntax matters to
who asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from motc.source import SourceFile

Path = tuple[str | int, ...]
Role = Literal["key", "value", "name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word from `start` to `end`: a key, a value of the key at `path`, or a name of the author's that is a key."""

    text: str
    start: int
    end: int
    path: Path
    role: Role

    @property
    def shown(self) -> str:
        """The word without the quotes it may stand in."""
        quoted = len(self.text) > 1 and self.text[0] == self.text[-1] and self.text[0] in "\"'"
        return self.text[1:-1] if quoted else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A section or a statement, from where it begins to its end; `path` is its own."""

    path: Path
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Outline:
    """The words and blocks of a text, in its order."""

    source: SourceFile
    words: tuple[Word, ...]
    blocks: tuple[Block, ...]

    def word_at(self, offset: int) -> Word | None:
        """The word that an offset is in, or at the end of."""
        return next((word for word in self.words if word.start <= offset <= word.end), None)

    @cached_property
    def keys(self) -> dict[Path, Word]:
        """The keys and names that are keys, by their path; the first of each."""
        keys: dict[Path, Word] = {}
        for word in self.words:
            if word.role != "value":
                keys.setdefault(word.path, word)
        return keys


def outline_of(source: SourceFile) -> Outline:
    """The outline of a text in the syntax that its name says; whatever the text, nothing is raised."""
    if source.name.lower().endswith(".mot"):
        from motc.lsp.mot_outline import mot_outline

        return mot_outline(source)
    from motc.lsp.yaml_outline import yaml_outline

    return yaml_outline(source)
