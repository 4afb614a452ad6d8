"""The positioned tree to a typed Spec, every error of pydantic's told at its place in the text."""

from __future__ import annotations

import heapq
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field

from pydantic import ValidationError

from motc.schema.complaint import complaint, place
from motc.schema.spec import Spec
from motc.schema.tree import find_span, key_span, to_python
from motc.schema.values import SECTION, TRUE_OR_FALSE
from motc.source import Span, SpecError
from motc.source.diagnostic import MOST_TOLD
from motc.syntax.tree import Mapping


@dataclass(frozen=True)
class Checked:
    """A valid Spec and the tree it came from, for the places of later complaints.

    Of some layers, `said` has the statement of `by_layer` that says each key for them.
    """

    spec: Spec
    tree: Mapping
    said: MappingType[tuple[str, ...], int] = field(default_factory=dict)

    def span(self, *path: str | int) -> Span:
        """Where the value at `path` stands, or the nearest place above it."""
        return find_span(self.tree, self._place(path))

    def key_span(self, *path: str | int) -> Span:
        """Where the key at `path` stands, or the nearest place above it."""
        return key_span(self.tree, self._place(path))

    def is_said_before(self, one: tuple[str, ...], other: tuple[str, ...]) -> bool:
        """Whether what stands at one path, but for the other, is said by the spec or an earlier statement of layers."""
        return self.said.get(one, -1) < self.said.get(other, -1)

    def _place(self, path: tuple[str | int, ...]) -> tuple[str | int, ...]:
        """The path, or that within the statement which says what stands there, above it, or within it."""
        for key, index in self.said.items():
            if path[: len(key)] == key or key[: len(path)] == path:
                return ("by_layer", index, *path)
        return path


def check(tree: Mapping) -> Checked:
    """Type a tree. Raises SpecError."""
    try:
        return Checked(Spec.model_validate(to_python(tree)), tree)
    except ValidationError as error:
        details = error.errors(include_url=False)
        for each in details:
            each["loc"] = tuple(step for step in each["loc"] if step not in (TRUE_OR_FALSE, SECTION))
        # what is missing comes behind what is there, which may be the same key misspelt
        first = heapq.nsmallest(MOST_TOLD, details, key=lambda e: (e["type"] == "missing", place(tree, e).start))
        told = dict.fromkeys(complaint(tree, each) for each in first)
        raise SpecError(*told, more=len(details) - len(first)) from None
