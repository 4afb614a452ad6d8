"""Specs in a notebook: read from Python, and shown as their drawings."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from motc.diff.edit import Edit
from motc.diff.edits import diff as edits_between
from motc.files import write_whole
from motc.ir.execution import Strategy
from motc.ir.model import Model
from motc.report import drawn, drawn_diff
from motc.report.account import account
from motc.report.page import page, page_of_diff
from motc.report.subject import Subject
from motc.report.svg import embedded, standalone
from motc.syntax.given import spec_source

Given = str | PathLike[str] | Mapping[str, Any]


class ShownSpec:
    """A spec that was read. In a notebook it is its drawing, elsewhere a few sentences."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def __repr__(self) -> str:
        return account(self.subject.model)

    def _repr_html_(self) -> str:
        return model_html(self.subject.model)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the drawing, to a file that ends in .svg, or else the page."""
        _save(Path(path), standalone(drawn(self.subject.model)), page(self.subject))


class ShownDiff:
    """What turns one spec's model into another's, as edits. In a notebook it is the drawing of that."""

    def __init__(self, before: Subject, after: Subject) -> None:
        self.before, self.after = before, after
        self.edits: tuple[Edit, ...] = edits_between(before.model, after.model)

    def __repr__(self) -> str:
        return "\n".join(f"{edit.kind} {edit.describe()}" for edit in self.edits) or "the same model"

    def _repr_html_(self) -> str:
        return embedded(drawn_diff(self.before.model, self.after.model))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the drawing, to a file that ends in .svg, or else the page."""
        drawing = standalone(drawn_diff(self.before.model, self.after.model))
        _save(Path(path), drawing, page_of_diff(self.before, self.after))


def spec(
    spec: Given,
    *,
    set: Mapping[str, Any] | None = None,
    dense: bool = False,
    strategy: Strategy | None = None,
) -> ShownSpec:
    """Read a spec, of a path, a text or a dict as `motc.load` takes it; nothing is built. Raises SpecError."""
    return ShownSpec(Subject.read(spec_source(spec), set, dense=dense, strategy=strategy))


def diff(before: Given | ShownSpec, after: Given | ShownSpec) -> ShownDiff:
    """What turns one spec's model into another's; each is what `motc.spec` takes or gives. Raises SpecError."""
    one, other = (each if isinstance(each, ShownSpec) else spec(each) for each in (before, after))
    return ShownDiff(Subject(one.subject.checked, one.subject.model, one.subject.dense, prefix="b"), other.subject)


def model_html(model: Model) -> str:
    """A model's drawing as a part of a notebook."""
    return embedded(drawn(model))


def _save(path: Path, drawing: str, whole: str) -> None:
    write_whole(path, drawing if path.suffix == ".svg" else whole)
