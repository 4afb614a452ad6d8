"""What a page is about: a spec, its model, and the text that is generated of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from motc.driver import check_spec, final_ir, generate_package, spec_text
from motc.ir.execution import Strategy
from motc.ir.model import Model
from motc.report.said import sources
from motc.schema import Checked
from motc.source import SourceFile


@dataclass(frozen=True)
class Subject:
    """A spec that was read, and its model, or the dense twin's."""

    checked: Checked
    model: Model
    dense: bool = False
    prefix: str = "s"
    """What the ids of its spec's lines in a page begin with."""

    @classmethod
    def read(
        cls,
        spec: Path | SourceFile,
        overrides: Mapping[str, Any] | None = None,
        *,
        dense: bool = False,
        strategy: Strategy | None = None,
        prefix: str = "s",
    ) -> Subject:
        """A spec, from a file or a text. Raises SpecError."""
        checked = check_spec(spec, overrides)
        return cls(checked, final_ir(checked, dense=dense, strategy=strategy), dense, prefix)

    @cached_property
    def sources(self) -> tuple[SourceFile, ...]:
        """The files of its spec."""
        return sources(self.checked.tree)

    def line_id(self, place: str) -> str:
        """The id in a page of `file:line`; nothing for what is no line of its spec."""
        name, _, line = place.rpartition(":")
        names = [source.name for source in self.sources]
        return f"{self.prefix}{names.index(name)}-{line}" if name in names else ""

    @cached_property
    def text(self) -> str:
        """Its `model.py`."""
        return generate_package(self.model, self.resolved)["model.py"]

    @cached_property
    def resolved(self) -> str:
        """The whole spec as one text."""
        return spec_text(self.checked, dense=self.dense)
