"""The positioned tree as plain values, and where a path of keys leads in it."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any, assert_never

from motc.source import Span
from motc.syntax.tree import Mapping, Node, Scalar, Sequence


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
            case Mapping():
                entry = node.by_key.get(str(step))
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


def key_span(tree: Node, path: Seq[str | int]) -> Span:
    """The span of the key at `path`, or of the nearest place above it."""
    node = tree
    for step in path[:-1]:
        node = _below(node, step) or node
    entry = node.by_key.get(str(path[-1])) if isinstance(node, Mapping) and path else None
    return find_span(tree, path) if entry is None else entry.key_span


def said_path(tree: Node, path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """As much of `path` as the tree has: what `mask = ful` says is `attention.mask`, not its `kind`."""
    node: Node | None = tree
    for index, step in enumerate(path):
        node = _below(node, step) if node is not None else None
        if node is None:
            return path[:index] or path
    return path


def node_at(tree: Node, path: Seq[str | int]) -> Node | None:
    """What stands at `path`, or None."""
    node: Node | None = tree
    for step in path:
        node = None if node is None else _below(node, step)
    return node


def _below(node: Node, step: str | int) -> Node | None:
    match node:
        case Mapping():
            return node.get(str(step))
        case Sequence(items=items):
            return items[step] if isinstance(step, int) and step < len(items) else None
        case Scalar():
            return None
        case _:
            assert_never(node)
