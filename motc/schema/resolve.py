"""One tree from a spec and the specs it extends, with overrides from the command line on top."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from collections.abc import Mapping as MappingType
from pathlib import Path
from typing import Any

from motc.schema.first_layers import STATEMENTS, first_layers
from motc.source import Diagnostic, SourceFile, Span, SpecError
from motc.syntax import read, read_file
from motc.syntax.files import LARGEST, too_large
from motc.syntax.mot_statements import duplicates
from motc.syntax.tree import Entry, Mapping, Node, Scalar, Sequence

MAX_DEPTH = 20
MAX_NESTING = 20

Reader = Callable[[Path], SourceFile]


def resolve(
    spec: Path | SourceFile, overrides: MappingType[str, Any] | None = None, reader: Reader = read_file
) -> Mapping:
    """Read a spec, merge it over what it extends, then set `overrides` (dotted key to value).

    `extends` is relative to the file that says it, and in a text without a file to the working directory. An editor's
    `reader` has texts that are not in their files yet.

    Raises SpecError for unreadable files, cycles in `extends`, and overrides that name no place.
    """
    tree = _with_bases(spec, (), 0, reader)
    for key, value in (overrides or {}).items():
        tree = _override(tree, key, value)
    return tree


def _with_bases(spec: Path | SourceFile, chain: tuple[Path, ...], length: int, reader: Reader) -> Mapping:
    """A spec's tree merged with its bases'; `chain` are the specs that extend it, of `length` characters together."""
    source = spec if isinstance(spec, SourceFile) else reader(spec)
    length += len(source.text)
    if length > LARGEST:
        raise too_large(f"{source.name}, with what extends it," if chain else source.name)
    tree = normalise(read(source))
    base = next((entry for entry in tree.entries if entry.key == "extends"), None)
    if base is None:
        return tree
    tree = Mapping(entries=tuple(entry for entry in tree.entries if entry.key != "extends"), span=tree.span)
    span = base.value.span
    if not isinstance(base.value, Scalar) or not isinstance(base.value.value, str):
        raise SpecError(
            Diagnostic(
                code="MOT030", message="`extends` takes the path of one spec", span=span, help='extends "base.mot"'
            )
        )
    folder = Path()
    if isinstance(spec, Path):
        chain, folder = (*chain, spec.resolve()), spec.parent
    target = folder / base.value.value
    if _real(target, span) in chain:
        raise SpecError(
            Diagnostic(
                code="MOT031", message=f"`extends` leads back to {target.name}", span=span, help="break the cycle"
            )
        )
    if len(chain) > MAX_DEPTH:
        raise SpecError(
            Diagnostic(
                code="MOT031", message=f"more than {MAX_DEPTH} specs extend each other", span=span, help="merge some"
            )
        )
    try:
        return _merge(_with_bases(target, chain, length, reader), tree)
    except SpecError as error:
        first = error.diagnostics[0]
        if first.span is None:  # the base itself could not be read: say where it was asked for
            raise SpecError(Diagnostic(code=first.code, message=first.message, span=span, help=first.help)) from None
        raise


def _real(path: Path, span: Span) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise SpecError(
            Diagnostic(code="MOT002", message=f"cannot read the base spec: {error}", span=span, help="check the path")
        ) from None


def normalise(tree: Mapping) -> Mapping:
    """Lists of modalities become mappings and a lone statement a list, so that trees can be merged."""
    entries = []
    for entry in tree.entries:
        value = entry.value
        if entry.key == "modalities" and isinstance(value, Sequence):
            names = [item for item in value.items if isinstance(item, Scalar) and isinstance(item.value, str)]
            if len(names) == len(value.items):
                empty = [
                    Entry(key=str(item.value), key_span=item.span, value=Mapping(entries=(), span=item.span))
                    for item in names
                ]
                if twice := duplicates(empty):
                    raise SpecError(*twice)
                value = Mapping(entries=tuple(empty), span=value.span)
        if entry.key in STATEMENTS and not isinstance(value, Sequence):
            value = Sequence(items=(value,), span=value.span)
        entries.append(Entry(key=entry.key, key_span=entry.key_span, value=value))
    return Mapping(entries=tuple(entries), span=tree.span)


def _merge(base: Mapping, over: Mapping) -> Mapping:
    """`over` on top of `base`: mappings key by key, statements after the base's, anything else replaced."""
    replaced = {entry.key: entry for entry in over.entries}
    entries = []
    for entry in base.entries:
        new = replaced.pop(entry.key, None)
        if new is None:
            entries.append(entry)
            continue
        value: Node = new.value
        if isinstance(new.value, Mapping) and (old := _section(entry)) is not None:
            value = _merge(old, new.value)
        elif entry.key in STATEMENTS and isinstance(entry.value, Sequence) and isinstance(new.value, Sequence):
            value = Sequence(items=entry.value.items + new.value.items, span=new.value.span)
        entries.append(Entry(key=new.key, key_span=new.key_span, value=value))
    entries.extend(replaced.values())
    return Mapping(entries=tuple(entries), span=over.span)


def _section(entry: Entry) -> Mapping | None:
    """What a section can be merged with; the plain word of `mask = full` or `ffn = none` is the section's kind."""
    if entry.key == "qk_norm" and isinstance(entry.value, Scalar) and entry.value.value == "none":
        return None
    if entry.key in ("mask", "attention", "ffn", "qk_norm") and isinstance(entry.value, Scalar):
        kind = Entry(key="kind", key_span=entry.key_span, value=entry.value)
        return Mapping(entries=(kind,), span=entry.value.span)
    return entry.value if isinstance(entry.value, Mapping) else None


def _override(tree: Mapping, key: str, value: Any) -> Mapping:
    steps = key.split(".")
    if not all(steps):
        raise _cannot_set(f"cannot set `{key}`", "a dotted key of the spec, such as attention.heads")
    if len(steps) > MAX_NESTING:
        raise _cannot_set(f"a key of {len(steps):,} parts is deeper than any in a spec", "such as attention.heads")
    plain = _plain_value(key, value)
    text = f"{key}={value}"
    source = SourceFile("--set", text)
    key_span = Span(source, 0, len(key))
    node: Node = Scalar(value=plain, span=Span(source, len(key) + 1, len(text)))
    for step in reversed(steps):
        entry = Entry(key=step, key_span=key_span, value=node)
        node = Mapping(entries=(entry,), span=key_span)
    assert isinstance(node, Mapping)
    merged = _merge(tree, node)
    if steps == ["layers"] and isinstance(plain, int) and plain > 0:
        merged = first_layers(merged, plain)
    return Mapping(entries=merged.entries, span=tree.span)


def _plain_value(key: str, value: Any) -> str | int | float | bool | None:
    """A number, text, true, false or null; numbers of numpy are Python's. Raises SpecError for anything else."""
    match value:
        case str() | bool() | int() | float() | None:
            return value
        case numbers.Integral():
            return int(value)
        case numbers.Real():
            return float(value)
        case _:
            kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            raise _cannot_set(f"cannot set `{key}` to a value of type {kind}", "a number, text, true, false or None")


def _cannot_set(message: str, way_out: str) -> SpecError:
    return SpecError(Diagnostic(code="MOT032", message=message, span=None, help=way_out))
