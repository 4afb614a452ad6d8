"""Where a spec says what a parameter group is, and who shares it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from motc.ir.inventory import LAYER_PATHS, OUTER_PATHS, SECTIONS
from motc.lower.selectors import paths_of
from motc.schema import Checked
from motc.source import SourceFile, Span
from motc.syntax.tree import Mapping, Node, Scalar, Sequence

EVERY = LAYER_PATHS + OUTER_PATHS

OUTSIDE = {
    "embedding": ("embedding", "vocab"),
    "head": ("head", "embedding", "vocab"),
    "position_embedding": ("positions",),
    "latents": (),
    "features": (),
    "conditions": (),
}
"""The keys that groups outside the layers follow from, where that is no section of their name."""


class Said(NamedTuple):
    """A place in a spec, and the line that stands there."""

    source: SourceFile
    line: int
    text: str


def said_of(
    checked: Checked, path: str, modalities: tuple[str, ...], layers: frozenset[int], *, dense: bool
) -> tuple[Said, ...]:
    """The lines that speak of a copy in these layers, or outside them if there are none; each once. In a dense twin
    nothing is untied.
    """
    spans = [*_sections(checked, path, modalities, layers), *([] if dense else _untied(checked, path, layers))]
    places = dict.fromkeys(_place(span) for span in spans if span.source.name != "--set")
    return tuple(places)


def sources(tree: Node) -> tuple[SourceFile, ...]:
    """The files that a spec was read from, the one that extends the others first."""
    found: dict[str, SourceFile] = {}
    for span in _spans(tree):
        if span.source.name != "--set":
            found.setdefault(span.source.name, span.source)
    return tuple(found.values())


def _place(span: Span) -> Said:
    line, _ = span.source.line_and_column(span.start)
    return Said(span.source, line, span.source.line(line).strip())


def _sections(checked: Checked, path: str, modalities: tuple[str, ...], layers: frozenset[int]) -> Iterator[Span]:
    """The sections that a group's sizes follow from: the model's, its towers', its modalities', some layers'."""
    spec, tree = checked.spec, checked.tree
    sections = list(_keys(path))
    towers = [name for name, tower in spec.towers.items() if set(tower.modalities) & set(modalities)]
    for section in sections:
        yield from _key(tree, section)
        for tower in towers:
            yield from _key(tree, "towers", tower, section)
        for index, statement in enumerate(spec.by_layer):
            if layers & frozenset(statement.layers.numbers):
                yield from _key(tree, "by_layer", index, section)
                for tower in towers:
                    yield from _key(tree, "by_layer", index, "towers", tower, section)
    if not layers:
        for name in modalities:
            yield from _key(tree, "modalities", name)


def _keys(path: str) -> tuple[str, ...]:
    section = next((name for name, paths in SECTIONS.items() if path in paths), None)
    return (section,) if section else OUTSIDE.get(path, (path,))


def _key(tree: Mapping, *path: str | int) -> Iterator[Span]:
    """The span of a key, if the tree has it."""
    node: Node | None = tree
    span: Span | None = None
    for step in path:
        match node:
            case Mapping() if step in node.by_key:
                span, node = node.by_key[str(step)].key_span, node.by_key[str(step)].value
            case Sequence(items=items) if isinstance(step, int) and step < len(items):
                span, node = items[step].span, items[step]
            case Mapping() if step == 0:  # one statement by itself
                span = node.span
            case _:
                return
    if span is not None and node is not None:
        yield next((each for each in (span, *_spans(node)) if each.source.name != "--set"), span)


def _untied(checked: Checked, path: str, layers: frozenset[int]) -> Iterator[Span]:
    """The last statement that unties the group in these layers."""
    for index, statement in reversed(list(enumerate(checked.spec.untie))):
        named = any(path in paths_of(selector, EVERY) for selector in statement.groups)
        if named and (statement.layers is None or layers & frozenset(statement.layers.numbers)):
            yield checked.span("untie", index)
            return


def _spans(node: Node) -> Iterator[Span]:
    yield node.span
    match node:
        case Mapping(entries=entries):
            for entry in entries:
                yield entry.key_span
                yield from _spans(entry.value)
        case Sequence(items=items):
            for item in items:
                yield from _spans(item)
        case Scalar():
            pass
