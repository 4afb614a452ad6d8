"""The statements of a `.mot` file as they were written, and the tree they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from motc.source import Diagnostic, Span, SpecError
from motc.syntax.tree import Entry, Mapping, Node, Scalar, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    text: str
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Braces:
    statements: tuple[Statement, ...]
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class List:
    items: tuple[Value, ...]
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """`key = value`, `key { ... }`, or `extends "base.mot"`."""

    key: Name
    value: Value
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Modality:
    """`modality text, image { vocab = 512 }`: a block belongs to the name before it."""

    items: tuple[tuple[Name, Braces | None], ...]
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """`tower gen = vae { ... }`; without `= names` it adds to the base spec's tower."""

    name: Name
    modalities: tuple[Name, ...]
    block: Braces | None
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Untie:
    """`untie ffn as {a} {b, c} in layers 0..3`."""

    groups: tuple[Name, ...]
    blocks: tuple[tuple[Span, tuple[Name, ...]], ...]
    layers: Scalar | None
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """`layers 0..9 step 3 { ffn { hidden = 64 } }`."""

    layers: Scalar
    block: Braces
    span: Span


Value = Scalar | List | Braces
Statement = Setting | Modality | Tower | Untie | Layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A whole file: `model NAME { ... }`."""

    name: Name | None
    body: Braces
    span: Span


def to_tree(model: Model) -> Mapping:
    """The tree of a file. Raises SpecError with every key that is given twice."""
    errors: list[Diagnostic] = []
    entries = _entries(model.body, errors)
    if model.name is not None:
        entries.insert(0, Entry(key="model", key_span=model.name.span, value=_text(model.name)))
    tree = _mapping(entries, model.span, errors)
    if errors:
        raise SpecError(*sorted(errors, key=lambda error: error.span.start if error.span else 0))
    return tree


def duplicates(entries: list[Entry]) -> list[Diagnostic]:
    """A diagnostic for each entry whose key stands before it already."""
    first: dict[str, Span] = {}
    errors: list[Diagnostic] = []
    for entry in entries:
        if entry.key in first:
            errors.append(
                Diagnostic(
                    code="MOT007",
                    message=f"`{entry.key}` is given twice",
                    span=entry.key_span,
                    help="keep one of the two",
                    related=(("first given here", first[entry.key]),),
                )
            )
        first.setdefault(entry.key, entry.key_span)
    return errors


def _mapping(entries: list[Entry], span: Span, errors: list[Diagnostic]) -> Mapping:
    errors.extend(duplicates(entries))
    return Mapping(entries=tuple(entries), span=span)


def _block(block: Braces, errors: list[Diagnostic]) -> Mapping:
    return _mapping(_entries(block, errors), block.span, errors)


def _entries(block: Braces, errors: list[Diagnostic]) -> list[Entry]:
    """Statements that add up become one entry, where the first of them stands."""
    entries: list[Entry | str] = []
    modalities: list[Entry] = []
    towers: list[Entry] = []
    statements: dict[str, list[Node]] = {"untie": [], "by_layer": []}
    spans: dict[str, Span] = {}
    for statement in block.statements:
        kind = ""
        match statement:
            case Setting(key=key, value=value):
                entries.append(Entry(key=key.text, key_span=key.span, value=_value(value, errors)))
                continue
            case Modality(items=items):
                kind = "modalities"
                for name, body in items:
                    attributes = _block(body, errors) if body else Mapping(entries=(), span=name.span)
                    modalities.append(Entry(key=name.text, key_span=name.span, value=attributes))
            case Tower():
                kind = "towers"
                towers.append(_tower(statement, errors))
            case Untie():
                kind = "untie"
                statements[kind].append(_untie(statement))
            case Layers(layers=layers, block=body, span=span):
                kind = "by_layer"
                inner = [Entry(key="layers", key_span=layers.span, value=layers), *_entries(body, errors)]
                statements[kind].append(_mapping(inner, span, errors))
            case _:
                assert_never(statement)
        if kind not in spans:
            spans[kind] = statement.span
            entries.append(kind)
    done = []
    for entry in entries:
        match entry:
            case Entry():
                done.append(entry)
            case "untie" | "by_layer":
                done.append(_gathered(entry, Sequence(items=tuple(statements[entry]), span=spans[entry])))
            case _:
                named = modalities if entry == "modalities" else towers
                done.append(_gathered(entry, _mapping(named, spans[entry], errors)))
    return done


def _gathered(key: str, value: Node) -> Entry:
    return Entry(key=key, key_span=value.span, value=value)


def _tower(tower: Tower, errors: list[Diagnostic]) -> Entry:
    entries = _entries(tower.block, errors) if tower.block else []
    if tower.modalities:
        names = _names(tower.modalities)
        entries.insert(0, Entry(key="modalities", key_span=names.span, value=names))
    return Entry(key=tower.name.text, key_span=tower.name.span, value=_mapping(entries, tower.span, errors))


def _untie(untie: Untie) -> Mapping:
    groups = _names(untie.groups)
    entries = [Entry(key="groups", key_span=groups.span, value=groups)]
    if untie.blocks:
        blocks = tuple(Sequence(items=tuple(_text(name) for name in names), span=span) for span, names in untie.blocks)
        span = Span(untie.span.source, blocks[0].span.start, blocks[-1].span.end)
        entries.append(Entry(key="as", key_span=span, value=Sequence(items=blocks, span=span)))
    if untie.layers is not None:
        entries.append(Entry(key="layers", key_span=untie.layers.span, value=untie.layers))
    return Mapping(entries=tuple(entries), span=untie.span)


def _value(value: Value, errors: list[Diagnostic]) -> Node:
    match value:
        case Scalar():
            return value
        case List(items=items, span=span):
            return Sequence(items=tuple(_value(item, errors) for item in items), span=span)
        case Braces():
            return _block(value, errors)
        case _:
            assert_never(value)


def _text(name: Name) -> Scalar:
    return Scalar(value=name.text, span=name.span)


def _names(names: tuple[Name, ...]) -> Sequence:
    span = Span(names[0].span.source, names[0].span.start, names[-1].span.end)
    return Sequence(items=tuple(_text(name) for name in names), span=span)
