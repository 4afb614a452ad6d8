"""The texts that are open in an editor, and the analysis of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from motc.lsp.analysis import Analysis, analyse, saved_meaning
from motc.lsp.names import is_name
from motc.lsp.outline import Outline, Word, outline_of
from motc.lsp.relatives import chain_of, family_of
from motc.source import SourceFile
from motc.syntax.files import text_source


class Session:
    """What is open. A text that changes changes what is told of those that extend it.

    Between edits a text is only looked at: its outline is new, and what it means as it was. `told` is all there is to
    tell, for when there is a pause.
    """

    def __init__(self) -> None:
        self._stale: dict[Path, None] = {}
        self._texts: dict[Path, SourceFile] = {}
        self._analyses: dict[Path, Analysis] = {}

    def change(self, path: Path, text: str) -> None:
        """Open a text, or put another in its place."""
        self._texts[path] = text_source(str(path), text)
        self._stale[path] = None
        before = self._analyses.get(path)
        if before is not None:
            self._analyses[path] = replace(before, outline=outline_of(self._texts[path]))

    def told(self) -> tuple[Analysis, ...]:
        """The analyses of what changed since this was last asked, and of open texts that it concerns."""
        stale, self._stale = self._stale, {}
        for path in tuple(stale):
            stale |= dict.fromkeys(self._that_extend(path))
        return tuple(self._analyse(each) for each in stale if each in self._texts)

    def save(self, path: Path) -> None:
        """Note that the text is in its file now."""
        if path in self._analyses:
            self._analyses[path] = replace(self._analyses[path], saved=saved_meaning(path))

    def chain(self, path: Path) -> tuple[Outline, ...]:
        """A text and those that it extends, nearest first."""
        return tuple(chain_of(path, self._texts).values())

    def family(self, path: Path, word: Word) -> tuple[Outline, ...]:
        """The texts that share a word with this one: its bases, and what extends them."""
        return tuple(family_of(path, self._texts, word.shown if is_name(word) else None).values())

    def names(self, path: Path) -> set[str]:
        """The modalities and towers that a text can name."""
        words = (word for outline in self.chain(path) for word in outline.words)
        return {word.shown for word in words if word.role == "name"}

    def close(self, path: Path) -> None:
        """Close a text; what counts from now on is its file."""
        self._texts.pop(path, None)
        self._analyses.pop(path, None)
        self._stale[path] = None

    def analysis(self, path: Path) -> Analysis | None:
        """What is told of an open text."""
        return self._analyses.get(path)

    def _analyse(self, path: Path) -> Analysis:
        self._analyses[path] = analyse(path, self._texts, self._analyses.get(path))
        return self._analyses[path]

    def _that_extend(self, path: Path) -> list[Path]:
        return [other for other, analysis in self._analyses.items() if other != path and path in analysis.bases]
