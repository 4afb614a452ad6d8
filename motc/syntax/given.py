"""A spec that a program gives: a path, a text, or the YAML form as dicts, lists and plain values."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping as MappingType
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

from motc.source import SourceFile, Span
from motc.syntax.files import text_source
from motc.syntax.mot_reader import MAX_DEPTH
from motc.syntax.tree import Entry, Mapping, Node, Scalar, Sequence
from motc.syntax.yaml_writer import write_yaml

_NOWHERE = Span(SourceFile("<dict>.yaml", ""), 0, 0)
_YAML = re.compile(r"(?:\s*#[^\n]*\n|\s)*(?:---|\{|-\s|[\"']|[\w.]+\s*:)")  # a key and a colon, as no .mot begins
_LARGEST = 10**40  # beyond it numbers are refused where they are read, and Python will not always write them


def spec_source(spec: str | PathLike[str] | MappingType[str, Any]) -> Path | SourceFile:
    """The path of a spec, or its text under the name that errors give it.

    A str is a text if it has a line break or a `{`, and else a path; a mapping becomes a text in YAML. `extends` in
    either is relative to the working directory. Raises TypeError for anything else, in a mapping too, and ValueError
    for a mapping that no spec can be.
    """
    if isinstance(spec, MappingType):
        tree = _node(spec, ())
        assert isinstance(tree, Mapping)
        return text_source("<dict>.yaml", write_yaml(tree))
    if isinstance(spec, str) and ("\n" in spec or "{" in spec):
        return text_source("<text>.yaml" if _YAML.match(spec) else "<text>.mot", spec)
    if isinstance(spec, str | PathLike) and str(spec):
        return Path(spec)
    raise TypeError(f"a spec is a path, a text or a mapping, not {reprlib.repr(spec)}")


def _node(value: Any, path: tuple[str, ...]) -> Node:
    where = ".".join(path)
    if len(path) > MAX_DEPTH:
        raise ValueError(f"`{where[:60]}…` is nested too deep; no key of a spec needs that")
    match value:
        case bool() | str() | None:
            return Scalar(value=value, span=_NOWHERE)
        case Integral():
            if abs(int(value)) >= _LARGEST:
                raise ValueError(f"`{where}` is beyond all sizes")
            return Scalar(value=int(value), span=_NOWHERE)
        case Real():
            return Scalar(value=float(value), span=_NOWHERE)
        case PathLike():
            return Scalar(value=str(value), span=_NOWHERE)
        case MappingType():
            return Mapping(entries=tuple(_entry(key, below, path) for key, below in value.items()), span=_NOWHERE)
        case list() | tuple():
            items = (_node(item, (*path, str(number))) for number, item in enumerate(value))
            return Sequence(items=tuple(items), span=_NOWHERE)
        case _:
            raise TypeError(f"`{where}` is a {type(value).__name__}; a spec holds numbers, words, lists and mappings")


def _entry(key: Any, value: Any, path: tuple[str, ...]) -> Entry:
    if not isinstance(key, str):
        raise TypeError(f"`{'.'.join((*path, str(key)))}`: a key is a text, not a {type(key).__name__}")
    return Entry(key=key, key_span=_NOWHERE, value=_node(value, (*path, key)))
