"""The positioned tree to a typed Spec, every error of pydantic's told at its place in the text."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from pydantic import ValidationError

from motc.schema.complaint import complaint, place
from motc.schema.spec import Spec
from motc.schema.tree import find_span, key_span, to_python
from motc.source import Span, SpecError
from motc.source.diagnostic import MOST_TOLD
from motc.syntax.tree import Mapping


@dataclass(frozen=True)
class Checked:
    """A valid Spec and the tree it came from, for the places of later complaints."""

    spec: Spec
    tree: Mapping

    def span(self, *path: str | int) -> Span:
        """Where the value at `path` stands, or the nearest place above it."""
        return find_span(self.tree, path)

    def key_span(self, *path: str | int) -> Span:
        """Where the key at `path` stands, or the nearest place above it."""
        return key_span(self.tree, path)


def check(tree: Mapping) -> Checked:
    """Type a tree. Raises SpecError."""
    try:
        return Checked(Spec.model_validate(to_python(tree)), tree)
    except ValidationError as error:
        details = error.errors(include_url=False)
        first = heapq.nsmallest(MOST_TOLD, details, key=lambda each: place(tree, each).start)
        told = dict.fromkeys(complaint(tree, each) for each in first)
        raise SpecError(*told, more=len(details) - len(first)) from None
