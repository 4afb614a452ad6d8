"""Statements to canonical `.mot` text: one a line, short blocks inline, the order kept."""

from __future__ import annotations

import re
from typing import assert_never

from motc.source import SourceFile, Span
from motc.syntax.comments import WIDTH, Comments, Line
from motc.syntax.mot_reader import parse, scan_comments
from motc.syntax.mot_statements import (
    Braces,
    Layers,
    List,
    Modality,
    Model,
    Name,
    Setting,
    Statement,
    Tower,
    Untie,
    Value,
    to_tree,
)
from motc.syntax.scalar import quote, write_scalar
from motc.syntax.tree import Entry, Mapping, Node, Scalar, Sequence

KEYWORDS = frozenset("model extends modality tower untie as in layers layer".split())
STATEMENTS = frozenset("extends modality tower untie".split())


def write_mot(tree: Mapping, comments: Comments | None = None) -> str:
    """The canonical text of a tree, with the comments of the text it was read from if they are given."""
    return _write(from_tree(tree), comments or Comments())


def format_mot(source: SourceFile) -> str:
    """The canonical text of a `.mot` text, comments kept. Raises SpecError."""
    model = parse(source)
    to_tree(model)  # refuses what is given twice
    return _write(model, Comments(source, scan_comments(source)))


def from_tree(tree: Mapping) -> Model:
    """The statements that say a tree. What no statement can say becomes a plain setting."""
    name = None
    statements: list[Statement] = []
    for entry in tree.entries:
        value = entry.value
        if entry.key == "model" and isinstance(value, Scalar) and isinstance(value.value, str) and name is None:
            name = Name(text=value.value, span=value.span)
        else:
            statements.extend(
                _modalities(entry) or _towers(entry) or _unties(entry) or _by_layer(entry) or [_setting(entry)]
            )
    return Model(name=name, body=Braces(statements=tuple(statements), span=tree.span), span=tree.span)


def _modalities(entry: Entry) -> list[Modality]:
    items: list[tuple[Name, Braces | None]] = []
    match entry:
        case Entry(key="modalities", value=Sequence() as listed):
            items = [(name, None) for name in _names(listed)]
        case Entry(key="modalities", value=Mapping(entries=entries)):
            if not all(isinstance(inner.value, Mapping) for inner in entries):
                return []
            items = [(_key(inner), _optional_block(inner.value)) for inner in entries]
        case _:
            return []
    plain = tuple(item for item in items if item[1] is None)
    if len(plain) == len(items) and items:
        return [Modality(items=plain, span=entry.value.span)]
    ends = [block.span if block else name.span for name, block in items]
    return [Modality(items=(item,), span=_joined(item[0].span, end)) for item, end in zip(items, ends, strict=True)]


def _towers(entry: Entry) -> list[Tower]:
    towers = []
    if entry.key != "towers" or not isinstance(entry.value, Mapping):
        return []
    for inner in entry.value.entries:
        if not isinstance(inner.value, Mapping):
            return []
        listed = inner.value.get("modalities")
        names = _names(listed) if isinstance(listed, Sequence) else ()
        rest = tuple(each for each in inner.value.entries if each.key != "modalities" or not names)
        block = _optional_block(Mapping(entries=rest, span=inner.value.span))
        span = _joined(inner.key_span, inner.value.span)
        towers.append(Tower(name=_key(inner), modalities=names, block=block, span=span))
    return towers


def _unties(entry: Entry) -> list[Untie]:
    if entry.key != "untie":
        return []
    items = entry.value.items if isinstance(entry.value, Sequence) else (entry.value,)
    unties = [_untie(item) for item in items]
    return [untie for untie in unties if untie] if all(unties) else []


def _by_layer(entry: Entry) -> list[Layers]:
    if entry.key != "by_layer" or not isinstance(entry.value, Sequence):
        return []
    statements = [_layers(item) for item in entry.value.items]
    return [each for each in statements if each] if all(statements) else []


def _layers(item: Node) -> Layers | None:
    layers = item.get("layers") if isinstance(item, Mapping) else None
    if not isinstance(item, Mapping) or not isinstance(layers, Scalar):
        return None
    inner: list[Statement] = []
    for entry in item.entries:
        if entry.value is not layers:
            inner.extend(_towers(entry) or [_setting(entry)])
    return Layers(layers=layers, block=Braces(statements=tuple(inner), span=item.span), span=item.span)


def _untie(item: Node) -> Untie | None:
    groups: tuple[Name, ...] = ()
    blocks: list[tuple[Span, tuple[Name, ...]]] = []
    layers: Scalar | None = None
    match item:
        case Scalar(value=str() as text):
            groups = (Name(text=text, span=item.span),)
        case Mapping(entries=entries):
            for entry in entries:
                match entry:
                    case Entry(key="groups", value=Sequence() as listed):
                        groups = _names(listed)
                    case Entry(key="as", value=Sequence(items=inner)) if inner:
                        for block in inner:
                            names = _names(block) if isinstance(block, Sequence) else ()
                            if not names and not (isinstance(block, Sequence) and not block.items):
                                return None
                            blocks.append((block.span, names))
                    case Entry(key="layers", value=Scalar() as scalar):
                        layers = scalar
                    case _:
                        return None
        case _:
            return None
    return Untie(groups=groups, blocks=tuple(blocks), layers=layers, span=item.span) if groups else None


def _setting(entry: Entry) -> Setting:
    return Setting(key=_key(entry), value=_from_node(entry.value), span=_joined(entry.key_span, entry.value.span))


def _joined(one: Span, other: Span) -> Span:
    """From the start of the first to the end of the last."""
    return Span(one.source, min(one.start, other.start), max(one.end, other.end))


def _key(entry: Entry) -> Name:
    return Name(text=entry.key, span=entry.key_span)


def _names(listed: Sequence) -> tuple[Name, ...]:
    """The names of a list, or none where one is no string."""
    names = []
    for item in listed.items:
        if not isinstance(item, Scalar) or not isinstance(item.value, str):
            return ()
        names.append(Name(text=item.value, span=item.span))
    return tuple(names)


def _from_node(node: Node) -> Value:
    match node:
        case Scalar():
            return node
        case Sequence(items=items, span=span):
            return List(items=tuple(_from_node(item) for item in items), span=span)
        case Mapping(entries=entries, span=span):
            return Braces(statements=tuple(_setting(entry) for entry in entries), span=span)
        case _:
            assert_never(node)


def _optional_block(node: Node) -> Braces | None:
    block = _from_node(node)
    return block if isinstance(block, Braces) and block.statements else None


def _write(model: Model, comments: Comments) -> str:
    head = "model {" if model.name is None else f"model {_name(model.name)} {{"
    lines = _block_lines(model.span.start, head, model.body, 0, comments)
    return comments.merge(lines)


def _block_lines(start: int, head: str, block: Braces, indent: int, comments: Comments) -> list[Line]:
    lines = [Line(indent=indent, text=head, start=start, end=block.span.start)]
    for statement in block.statements:
        lines.extend(_lines(statement, indent + 1, comments))
    # YAML may have no brace here: then what stands behind the block belongs to its last statement.
    has_brace = block.span.source.text[block.span.end - 1 : block.span.end] == "}"
    end = block.span.end - 1 if has_brace else lines[-1].start
    lines.append(Line(indent=indent, text="}", start=end, end=block.span.end, closes=True))
    return lines


def _lines(statement: Statement, indent: int, comments: Comments) -> list[Line]:
    start, end = statement.span.start, statement.span.end
    text = _inline(statement)
    block = _last_block(statement)
    fits = len(text) + 2 * indent <= WIDTH and not comments.within(start, end) and _depth(block) <= 2
    if block is None or (not block.statements and not comments.within(start, end)) or fits:
        return [Line(indent=indent, text=text, start=start, end=end)]
    if isinstance(statement, Modality) and len(statement.items) > 1:
        *others, last = statement.items
        lines: list[Line] = []
        for name, body in [*others, last]:
            stop = body.span.end if body else name.span.end
            lines.extend(
                _lines(Modality(items=((name, body),), span=Span(name.span.source, start, stop)), indent, comments)
            )
            start = stop
        return lines
    head = text[: len(text) - len(_braces(block))] + "{"
    return _block_lines(start, head, block, indent, comments)


def _last_block(statement: Statement) -> Braces | None:
    match statement:
        case Setting(value=value):
            return value if isinstance(value, Braces) else None
        case Modality(items=items):
            return next((block for _, block in reversed(items) if block is not None), None)
        case Tower(block=block) | Layers(block=block):
            return block
        case Untie():
            return None
        case _:
            assert_never(statement)


def _depth(value: Braces | None) -> int:
    """How deep blocks lie in each other."""
    if value is None:
        return 0
    return 1 + max((_depth(_last_block(statement)) for statement in value.statements), default=0)


def _inline(statement: Statement) -> str:
    match statement:
        case Setting(key=Name(text="extends"), value=Scalar(value=str() as base)):
            return f"extends {quote(base)}"
        case Setting(key=key, value=value):
            is_statement = key.text in STATEMENTS or (isinstance(value, Braces) and key.text == "layers")
            shown = quote(key.text) if is_statement else _name(key)
            return f"{shown} {_value(value)}" if isinstance(value, Braces) else f"{shown} = {_value(value)}"
        case Modality(items=items):
            return "modality " + ", ".join(
                _name(name) + (f" {_braces(block)}" if block else "") for name, block in items
            )
        case Tower(name=name, modalities=modalities, block=block):
            head = f"tower {_name(name)}" + (f" = {_names_text(modalities)}" if modalities else "")
            return head + (f" {_braces(block)}" if block else "")
        case Untie(groups=groups, blocks=blocks, layers=layers):
            text = f"untie {_names_text(groups)}"
            if blocks:
                text += " as " + " ".join(f"{{{_names_text(names)}}}" for _, names in blocks)
            if layers is not None:
                text += f" in {_layer_range(layers)}"
            return text
        case Layers(layers=layers, block=block):
            return f"{_layer_range(layers)} {_braces(block)}"
        case _:
            assert_never(statement)


def _layer_range(layers: Scalar) -> str:
    if isinstance(layers.value, int):
        return f"layer {_value(layers)}"
    stepping = re.fullmatch(r"(\d+\.\.\d+) step (\d+)", str(layers.value))
    return f"layers {stepping[0] if stepping else _value(layers)}"


def _value(value: Value) -> str:
    match value:
        case Scalar(value=scalar):
            return write_scalar(scalar)
        case List(items=items):
            return f"[{', '.join(_value(item) for item in items)}]"
        case Braces():
            return _braces(value)
        case _:
            assert_never(value)


def _braces(block: Braces) -> str:
    # A statement that ends in a list of names would take a comma for its own.
    inner = "".join(
        _inline(statement) + ("" if last else ", " if isinstance(statement, Setting) else "; ")
        for statement, last in ((each, each is block.statements[-1]) for each in block.statements)
    )
    return f"{{ {inner} }}" if inner else "{}"


def _names_text(names: tuple[Name, ...]) -> str:
    return ", ".join(_name(name) for name in names)


def _name(name: Name) -> str:
    """A name or a selector, quoted where it is none."""
    plain = re.fullmatch(r"[A-Za-z_*][A-Za-z0-9_.*-]*", name.text) is not None and name.text not in KEYWORDS
    return name.text if plain or name.text in ("layers", "model") else quote(name.text)
