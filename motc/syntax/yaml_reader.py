"""A YAML text to the tree, from the parser's events: words stay words, and nothing is constructed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from motc.source import Diagnostic, SourceFile, Span, SpecError
from motc.syntax.mot_reader import MAX_DEPTH
from motc.syntax.mot_statements import duplicates
from motc.syntax.scalar import read_word
from motc.syntax.tree import Entry, Mapping, Node, Scalar, Sequence

_COMMENT = re.compile(r"(?:^|(?<=[ \t]))#[^\n]*", re.MULTILINE)


@dataclass(slots=True)
class _Open:
    """A collection whose end has not come yet."""

    is_mapping: bool
    start: int
    entries: list[Entry] = field(default_factory=list)
    items: list[Node] = field(default_factory=list)
    key: Scalar | None = None


def read_yaml(source: SourceFile) -> Mapping:
    """The tree of a YAML text. Raises SpecError."""
    return parse_yaml(source)[0]


def parse_yaml(source: SourceFile) -> tuple[Mapping, list[tuple[int, str]]]:
    """The tree of a YAML text and its comments, with their offsets. Raises SpecError."""
    builder = _Builder(source)
    for event in _events(source):
        builder.take(event)
    if builder.root is None or (isinstance(builder.root, Scalar) and builder.root.value is None):
        raise SpecError(
            Diagnostic(
                code="MOT004", message=f"{source.name} holds no spec", span=None, help="start with `model: NAME`"
            )
        )
    if not isinstance(builder.root, Mapping):
        raise builder.error(
            "MOT006", "a spec is a mapping of keys to values", builder.root.span, "such as `model: NAME`"
        )
    if builder.errors:
        raise SpecError(*sorted(builder.errors, key=lambda error: error.span.start if error.span else 0))
    return builder.root, list(_comments(source, builder.texts))


def _events(source: SourceFile) -> Iterator[Any]:
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times as fast, and not everywhere
    try:
        yield from yaml.parse(source.text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        if error.context_mark and re.search("scanning an (alias|anchor)", error.context or ""):
            at = error.context_mark.index
            raise _refuse_reference(source.text[at], Span(source, at, at + 1)) from None
        mark = error.problem_mark or error.context_mark
        at = min(mark.index, len(source.text)) if mark else 0
        reason = " ".join(part for part in (error.context, error.problem) if part) or "this is no YAML"
        way_out = (
            "indent with spaces, not tabs" if "\t" in source.text else "quote text that YAML would take for syntax"
        )
        raise SpecError(
            Diagnostic(code="MOT006", message=reason, span=Span(source, at, at + 1), help=way_out)
        ) from None
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise SpecError(Diagnostic(code="MOT006", message=reason, span=None, help="save it as plain text")) from None


def _refuse_reference(shown: str, span: Span) -> SpecError:
    way_out = 'quote a selector that starts with `*`, such as "*.norm"; write a value out where it is used'
    message = f"YAML anchors and aliases are refused: `{shown}`"
    return SpecError(Diagnostic(code="MOT008", message=message, span=span, help=way_out))


class _Builder:
    """Events to nodes, with a stack of its own, so that no nesting exhausts Python's."""

    def __init__(self, source: SourceFile) -> None:
        self.source = source
        self.stack: list[_Open] = []
        self.root: Node | None = None
        self.errors: list[Diagnostic] = []
        self.texts: list[tuple[int, int]] = []  # quoted and block scalars, where `#` starts no comment
        self.documents = 0

    def error(self, code: str, message: str, span: Span, way_out: str) -> SpecError:
        return SpecError(Diagnostic(code=code, message=message, span=span, help=way_out))

    def take(self, event: Any) -> None:
        start, end = event.start_mark.index, event.end_mark.index
        span = Span(self.source, start, end)
        if getattr(event, "anchor", None) is not None:
            raise _refuse_reference(event.anchor, span)
        if getattr(event, "tag", None) is not None:
            raise self.error(
                "MOT008", f"YAML tags are refused: `{event.tag}`", span, "leave the tag out, or quote the text"
            )
        match type(event).__name__:
            case "DocumentStartEvent":
                self.documents += 1
                if self.documents > 1:
                    raise self.error("MOT009", "a second document starts here", span, "one spec a file")
            case "ScalarEvent":
                self.scalar(event, span)
            case "MappingStartEvent" | "SequenceStartEvent" as kind:
                if len(self.stack) >= MAX_DEPTH:
                    message = f"collections are nested more than {MAX_DEPTH} deep"
                    raise self.error("MOT010", message, span, "no key of a spec needs that")
                top = self.stack[-1] if self.stack else None
                if top and top.is_mapping and top.key is None:
                    raise self.error("MOT006", "a key is a word, not a collection", span, "quote it if it is text")
                self.stack.append(_Open(kind == "MappingStartEvent", start))
            case "MappingEndEvent" | "SequenceEndEvent":
                self.close(self.stack.pop(), start, end)

    def scalar(self, event: Any, span: Span) -> None:
        top = self.stack[-1] if self.stack else None
        is_key = top is not None and top.is_mapping and top.key is None
        if event.style:
            header = self.source.text.find("\n", span.start) if event.style in "|>" else span.start
            self.texts.append((max(header, span.start), span.end))
        if any(0xD800 <= ord(char) < 0xE000 for char in event.value):
            raise self.error("MOT006", "half a character (a surrogate) in a string", span, "write \\U and eight digits")
        if event.style or is_key:
            self.add(Scalar(value=event.value, span=span))
        else:
            self.add(Scalar(value=read_word(event.value, span) if event.value not in ("", "~") else None, span=span))

    def close(self, done: _Open, start: int, end: int) -> None:
        # The end of a block collection is only seen at the next token: its last child says where it ends.
        if end == start:
            ends = [entry.value.span.end for entry in done.entries[-1:]] + [item.span.end for item in done.items[-1:]]
            end = max([done.start, *ends])
        span = Span(self.source, done.start, end)
        if done.is_mapping:
            self.errors.extend(duplicates(done.entries))
            self.add(Mapping(entries=tuple(done.entries), span=span))
        else:
            self.add(Sequence(items=tuple(done.items), span=span))

    def add(self, node: Node) -> None:
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        if not top.is_mapping:
            top.items.append(node)
        elif top.key is None:
            assert isinstance(node, Scalar)
            top.key = node
        else:
            top.entries.append(Entry(key=str(top.key.value), key_span=top.key.span, value=node))
            top.key = None


def _comments(source: SourceFile, texts: list[tuple[int, int]]) -> Iterator[tuple[int, str]]:
    at = 0
    for start, end in [*texts, (len(source.text), len(source.text))]:
        while comment := _COMMENT.search(source.text, at):
            if comment.start() >= start:
                break
            yield comment.start(), comment[0]
            at = comment.end()
        at = max(at, end)
