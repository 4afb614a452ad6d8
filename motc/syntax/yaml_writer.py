"""The tree to canonical YAML: blocks of two spaces, short collections inline, the order kept."""

from __future__ import annotations

from typing import assert_never

from motc.source import SourceFile
from motc.syntax.comments import WIDTH, Comments, Line
from motc.syntax.scalar import write_scalar, write_text
from motc.syntax.tree import Entry, Mapping, Node, Scalar, Sequence
from motc.syntax.yaml_reader import parse_yaml


def write_yaml(tree: Mapping, comments: Comments | None = None) -> str:
    """The canonical text of a tree, with the comments of the text it was read from if they are given."""
    return _write(tree, comments or Comments())


def format_yaml(source: SourceFile) -> str:
    """The canonical text of a YAML text, comments kept. Raises SpecError.

    A comment that stood before the end of a collection in braces comes to stand behind it, and what it kept from being
    on one line then is: so the text is written again until nothing moves, which is at most once.
    """
    tree, comments = parse_yaml(source)
    text = _write(tree, Comments(source, comments))
    if not comments:
        return text
    again = SourceFile(source.name, text)
    tree, comments = parse_yaml(again)
    return _write(tree, Comments(again, comments))


def _write(tree: Mapping, comments: Comments) -> str:
    lines = [line for entry in tree.entries for line in _entry_lines(entry, 0, comments)]
    return comments.merge(lines or [Line(indent=0, text="{}", start=tree.span.start, end=tree.span.end)])


def _entry_lines(entry: Entry, indent: int, comments: Comments) -> list[Line]:
    start, end = entry.key_span.start, entry.value.span.end
    key = f"{write_text(entry.key)}:"
    text = f"{key} {_inline(entry.value)}"
    commented = comments.within(start, end) or _has_commented(entry.value, comments)
    if _stays_inline(entry.value, len(text) + 2 * indent, commented):
        return [Line(indent=indent, text=text, start=start, end=end)]
    return [
        Line(indent=indent, text=key, start=start, end=entry.key_span.end),
        *_block_lines(entry.value, indent + 1, comments),
    ]


def _block_lines(node: Node, indent: int, comments: Comments) -> list[Line]:
    lines: list[Line] = []
    match node:
        case Mapping(entries=entries):
            lines = [line for entry in entries for line in _entry_lines(entry, indent, comments)]
        case Sequence(items=items):
            for item in items:
                span, text = item.span, f"- {_inline(item)}"
                commented = comments.within(span.start, span.end) or _has_commented(item, comments)
                if _stays_inline(item, len(text) + 2 * indent, commented):
                    lines.append(Line(indent=indent, text=text, start=span.start, end=span.end))
                    continue
                first, *rest = _block_lines(item, indent + 1, comments)
                lines.append(Line(indent=indent, text=f"- {first.text}", start=first.start, end=first.end))
                lines.extend(rest)
        case Scalar():
            raise AssertionError("a scalar is always inline")
        case _:
            assert_never(node)
    return lines


def _has_commented(node: Node, comments: Comments) -> bool:
    """Whether one of several entries ends where a comment stands, which is then about it and not about the whole."""
    entries = node.entries if isinstance(node, Mapping) else ()
    return len(entries) > 1 and any(comments.follows(entry.value.span.end) for entry in entries)


def _stays_inline(node: Node, width: int, commented: bool) -> bool:
    match node:
        case Scalar() | Sequence(items=()) | Mapping(entries=()):
            return True
        case Sequence() | Mapping():
            return width <= WIDTH and not commented and _depth(node) <= 2
        case _:
            assert_never(node)


def _depth(node: Node) -> int:
    """How deep mappings lie in each other; one within a sequence counts as too deep."""
    match node:
        case Scalar():
            return 0
        case Sequence(items=items):
            return 3 if any(_depth(item) for item in items) else 0
        case Mapping(entries=entries):
            return 1 + max((_depth(entry.value) for entry in entries), default=0)
        case _:
            assert_never(node)


def _inline(node: Node) -> str:
    match node:
        case Scalar(value=scalar):
            return write_scalar(scalar)
        case Sequence(items=items):
            return f"[{', '.join(_inline(item) for item in items)}]"
        case Mapping(entries=entries):
            return f"{{{', '.join(f'{write_text(entry.key)}: {_inline(entry.value)}' for entry in entries)}}}"
        case _:
            assert_never(node)
