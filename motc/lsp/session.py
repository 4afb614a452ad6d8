"""The texts that are open in an editor, and the analysis of each."""

from __future__ import annotations

from pathlib import Path

from motc.lsp.analysis import Analysis, analyse
from motc.source import SourceFile
from motc.syntax.files import text_source


class Session:
    """What is open. A text that changes changes what is told of those that extend it."""

    def __init__(self) -> None:
        self._texts: dict[Path, SourceFile] = {}
        self._analyses: dict[Path, Analysis] = {}

    def change(self, path: Path, text: str) -> tuple[Analysis, ...]:
        """Open a text, or put another in its place: the analyses of it, and of open ones that it may concern."""
        self._texts[path] = text_source(str(path), text)
        return tuple(self._analyse(each) for each in (path, *self._that_extend(path)))

    def close(self, path: Path) -> tuple[Analysis, ...]:
        """Close a text; what counts from now on is its file."""
        self._texts.pop(path, None)
        self._analyses.pop(path, None)
        return tuple(self._analyse(each) for each in self._that_extend(path))

    def analysis(self, path: Path) -> Analysis | None:
        """What is told of an open text."""
        return self._analyses.get(path)

    def _analyse(self, path: Path) -> Analysis:
        before = self._analyses.get(path)
        self._analyses[path] = analyse(path, self._texts, before.meaning if before else None)
        return self._analyses[path]

    def _that_extend(self, path: Path) -> list[Path]:
        return [other for other, analysis in self._analyses.items() if other != path and path in analysis.bases]
