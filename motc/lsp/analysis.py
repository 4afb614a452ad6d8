"""A spec in an editor: what is wrong with it, what it means, and what it meant when it was last right."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from pathlib import Path

from motc.cost.parameters import leaves_with_counts
from motc.driver import check_spec
from motc.ir.leaf import Leaf
from motc.ir.model import Model
from motc.lower import lower, warnings
from motc.lsp.outline import Outline, outline_of
from motc.schema import Checked
from motc.source import Diagnostic, SourceFile, SpecError
from motc.syntax import read_file


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """A spec that is right: typed, and lowered to its model. Passes add how it is executed, which nobody asks here."""

    checked: Checked
    model: Model

    def leaves(self) -> Iterator[Leaf]:
        """Every parameter group, once for each kind of layer."""
        return (leaf for leaf, _ in leaves_with_counts(self.model))


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """A text and all that is told of it. `meaning` is that of an earlier text where this one is wrong, `saved`
    the file's.

    `bases` are the real paths of the specs that it extends, directly or through others, as far as they could be read.
    """

    path: Path
    outline: Outline
    diagnostics: tuple[Diagnostic, ...] = ()
    meaning: Meaning | None = None
    is_right: bool = True
    bases: tuple[Path, ...] = ()
    saved: Meaning | None = None

    @property
    def source(self) -> SourceFile:
        return self.outline.source


Texts = MappingType[Path, SourceFile]
"""The texts that are open, by the real paths of their files."""


def analyse(path: Path, texts: Texts, before: Analysis | None = None) -> Analysis:
    """The analysis of an open text; what it extends is taken from an open text too, or from the file."""
    source = texts[path]
    bases: list[Path] = []

    def reader(asked: Path) -> SourceFile:
        real = asked.resolve()
        if real != path:
            bases.append(real)
        return texts.get(real) or read_file(asked)

    meaning, is_right = before.meaning if before else None, False
    try:
        checked = check_spec(path, reader=reader)
        meaning = Meaning(checked=checked, model=lower(checked))
        told, is_right = warnings(checked, meaning.model), True
    except SpecError as error:
        told = error.diagnostics
    outline = before.outline if before and before.source is source else outline_of(source)
    return Analysis(
        path=path,
        outline=outline,
        diagnostics=told,
        meaning=meaning,
        is_right=is_right,
        bases=tuple(bases),
        saved=before.saved if before else saved_meaning(path),
    )


def saved_meaning(path: Path) -> Meaning | None:
    """What the file means, if it is right."""
    try:
        checked = check_spec(path)
        return Meaning(checked=checked, model=lower(checked))
    except SpecError:
        return None
