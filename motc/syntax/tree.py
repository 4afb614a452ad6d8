"""The positioned tree both syntaxes are read to: scalars, sequences and mappings that know where they stand.

The tree has the shape of the YAML form; the `.mot` form is read to the same shape:

    model NAME { ... }                    model: NAME, and the body's statements as keys beside it
    key = value                           key: value
    attention { heads = 8, rope { } }     attention: {heads: 8, rope: {}}
    modality text, image { vocab = 512 }  modalities: {text: {}, image: {vocab: 512}}
    tower gen = vae { width = 512 }       towers: {gen: {modalities: [vae], width: 512}}
    untie ffn as {a} {b, c} in layers 0..3
                                          untie: [{groups: [ffn], as: [[a], [b, c]], layers: 0..3}]
    layers 0..9 step 3 { ffn { hidden = 64 } }
                                          by_layer: [{layers: 0..9 step 3, ffn: {hidden: 64}}]
    extends "base.mot"                    extends: base.mot
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from motc.source import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    value: str | int | float | bool | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    items: tuple[Node, ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    key: str
    key_span: Span = field(compare=False, repr=False)
    value: Node


@dataclass(frozen=True, kw_only=True)
class Mapping:
    entries: tuple[Entry, ...]
    span: Span = field(compare=False, repr=False)

    @cached_property
    def by_key(self) -> dict[str, Entry]:
        """The entries by their keys, each of which stands once in a tree that was read."""
        return {entry.key: entry for entry in self.entries}

    def get(self, key: str) -> Node | None:
        """The value of `key`, or None."""
        entry = self.by_key.get(key)
        return None if entry is None else entry.value


Node = Scalar | Sequence | Mapping
