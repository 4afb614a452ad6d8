"""The positioned tree to a typed Spec, every error of pydantic's told at its place in the text."""

from __future__ import annotations

import difflib
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any, assert_never

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from motc.schema.spec import Spec
from motc.source import Diagnostic, Span, SpecError
from motc.syntax.tree import Mapping, Node, Scalar, Sequence


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
        return _key_span(self.tree, path)


def check(tree: Mapping) -> Checked:
    """Type a tree. Raises SpecError with every diagnostic, in the order of the text."""
    try:
        return Checked(Spec.model_validate(to_python(tree)), tree)
    except ValidationError as error:
        found = {_diagnostic(tree, details) for details in error.errors(include_url=False)}
        raise SpecError(*sorted(found, key=lambda d: (d.span.start if d.span else 0, d.message))[:50]) from None


def to_python(node: Node) -> Any:
    """The tree as plain values."""
    match node:
        case Scalar(value=value):
            return value
        case Sequence(items=items):
            return [to_python(item) for item in items]
        case Mapping(entries=entries):
            return {entry.key: to_python(entry.value) for entry in entries}
        case _:
            assert_never(node)


def find_span(tree: Node, path: Seq[str | int]) -> Span:
    """The span at `path`; steps the tree does not have (pydantic's own) are passed over."""
    node: Node = tree
    span = tree.span
    for step in path:
        match node:
            case Mapping(entries=entries):
                entry = next((e for e in entries if e.key == step), None)
                if entry is None:
                    continue
                node, span = entry.value, entry.value.span
                if isinstance(node, Mapping):
                    span = entry.key_span
            case Sequence(items=items):
                if isinstance(step, int) and step < len(items):
                    node, span = items[step], items[step].span
            case Scalar():
                break
            case _:
                assert_never(node)
    return span


def _key_span(tree: Node, path: Seq[str | int]) -> Span:
    node = tree
    for step in path[:-1]:
        if isinstance(node, Mapping):
            node = node.get(str(step)) or node
        elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
    if isinstance(node, Mapping):
        for entry in node.entries:
            if entry.key == path[-1]:
                return entry.key_span
    return find_span(tree, path)


def _diagnostic(tree: Mapping, details: ErrorDetails) -> Diagnostic:
    path = details["loc"]
    shown = ".".join(str(step) for step in path if step != "[key]")
    if details["type"] == "extra_forbidden":
        known = _keys_at(path[:-1])
        close = difflib.get_close_matches(str(path[-1]), known, n=1)
        way_out = f"did you mean `{close[0]}`?" if close else f"known keys here: {', '.join(known)}"
        return Diagnostic(code="MOT021", message=f"unknown key `{path[-1]}`", span=_key_span(tree, path), help=way_out)
    if path and path[-1] == "[key]":
        return Diagnostic(
            code="MOT024", message=_reason(details), span=_key_span(tree, path[:-1]), help="choose another name"
        )
    span = find_span(tree, path)
    if details["type"] == "missing":
        return Diagnostic(
            code="MOT022",
            message=f"`{shown}` is missing",
            span=span,
            help=f"add `{path[-1]}`, here or in the base spec",
        )
    code = "MOT024" if "name" in details["msg"] and details["type"] == "value_error" else "MOT023"
    help_text = ""
    if details["type"] == "literal_error":
        expected = str(details.get("ctx", {}).get("expected", ""))
        words = [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]
        close = difflib.get_close_matches(str(details["input"]), words, n=1)
        help_text = f"did you mean `{close[0]}`?" if close else f"one of: {', '.join(words)}"
    return Diagnostic(code=code, message=f"`{shown}`: {_reason(details)}", span=span, help=help_text)


def _reason(details: ErrorDetails) -> str:
    text = details["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    given = details["input"]
    if isinstance(given, str | int | float) and details["type"] != "value_error":
        text += f", not {str(given)[:60]!r}" if isinstance(given, str) else f", not {str(given)[:60]}"
    return text


def _keys_at(path: Seq[str | int]) -> list[str]:
    """The keys the schema knows at `path`."""
    kind: type[BaseModel] = Spec
    for step in path:
        field = kind.model_fields.get(str(step))
        if field is None:
            continue
        for inner in _models_in(field.annotation):
            kind = inner
    return sorted(field.alias or name for name, field in kind.model_fields.items())


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
