"""A `.mot` text to its statements, by an LALR grammar."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from functools import cache, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from motc.source import Diagnostic, SourceFile, Span, SpecError
from motc.syntax.mot_mistakes import mistake
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
from motc.syntax.scalar import read_word, unquote
from motc.syntax.tree import Mapping, Scalar

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

    Parsed = Tree[Token]

MAX_DEPTH = 20

# A comma after a name continues the list of `modality`, `tower` and `untie`; elsewhere it ends a statement.
GRAMMAR = r"""
start: _NL* model _NL*
model: MODEL [WORD | STRING] block
block: LBRACE _separator* (_statement (_separator+ _statement)* _separator*)? RBRACE
_separator: _NL | "," | ";"
_statement: setting | nested | extends | modality | tower | untie | layers
setting: (_name | LAYERS | LAYER) "=" _value
nested: _name block
extends: EXTENDS _name
modality: MODALITY modality_item (_comma modality_item)*
modality_item: _name [block]
tower: TOWER _name ["=" names] [block]
untie: UNTIE names ["as" blocks] ["in" ("layers" | "layer") layer_range]
layers: (LAYERS | LAYER) layer_range block
layer_range: scalar ["step" scalar]
blocks: group+
group: LBRACE _NL* (_name (_comma _name)* _NL*)? RBRACE
names: _name (_comma _name)*
_comma: "," _NL*
_value: scalar | list | block
list: LSQB _NL* (_value (_comma _value)* _NL*)? RSQB
_name: WORD | STRING
scalar: WORD | STRING
MODEL: "model"
EXTENDS: "extends"
MODALITY: "modality"
TOWER: "tower"
UNTIE: "untie"
LAYERS: "layers"
LAYER: "layer"
LBRACE: "{"
RBRACE: "}"
LSQB: "["
RSQB: "]"
STRING: /"(?:[^"\\\n]|\\.)*"/
WORD: /[0-9]+[ \t]*\.\.[ \t]*[0-9]+|[\w.*+-]+/
_NL: /\n[ \t\r\n]*/
%ignore /[ \t\r]+/
%ignore /#[^\n]*/
"""

_BEFORE_A_PART = "model{"
_SCAN = re.compile(r'"(?:[^"\\\n]|\\.)*"|#[^\n]*|[{}\[\]]')


def read_mot(source: SourceFile) -> Mapping:
    """The tree of a `.mot` text. Raises SpecError."""
    return to_tree(parse(source))


def scan_comments(source: SourceFile) -> list[tuple[int, str]]:
    """The comments of a text, with their offsets."""
    return [(token.start(), token[0]) for token in _SCAN.finditer(source.text) if token[0].startswith("#")]


def parse(source: SourceFile) -> Model:
    """The statements of a `.mot` text. Raises SpecError at the first place that does not fit the grammar."""
    unclosed, ends = _brackets(source)
    from lark import UnexpectedInput

    if len(ends) > 1:
        with suppress(UnexpectedInput):  # whose place is not the text's
            return _in_parts(source, ends)
    try:
        tree = _parser().parse(source.text)
    except UnexpectedInput as error:
        raise mistake(source, error, unclosed) from None
    return _Builder(source).model(tree)


def _in_parts(source: SourceFile, ends: list[int]) -> Model:
    """The same, part by part, of which those are known that an earlier text had. Raises UnexpectedInput.

    A line's end after a block of the model's ends a statement; `ends` are the offsets of such line ends.
    """
    text, first, last = source.text, ends[0], ends[-1]
    whole = _Builder(source).model(_parser().parse(text[:first] + " " * (last - first) + text[last:]))
    statements = [each for each in whole.body.statements if each.span.start < first]
    for start, end in pairwise(ends):
        part = _Builder(source, start - len(_BEFORE_A_PART))
        statements.extend(part.statement(child) for child in _part(text[start:end]))
    statements.extend(each for each in whole.body.statements if each.span.start >= last)
    return replace(whole, body=replace(whole.body, statements=tuple(statements)))


@lru_cache(maxsize=4096)
def _part(text: str) -> list[Parsed]:
    """The statements of a part of a text. An editor asks for the same ones again, whatever stands between.

    They are read as a model's: a parser that begins with either takes twice as long to build.
    """
    (model,) = _trees(_parser().parse(_BEFORE_A_PART + text + "}"))
    return _trees(cast("Parsed", model.children[-1]))


@cache
def _parser() -> Lark:
    from lark import Lark

    return Lark(GRAMMAR, parser="lalr", maybe_placeholders=True)


def _brackets(source: SourceFile) -> tuple[list[int], list[int]]:
    """Offsets of brackets without an end, and of line ends after a block of the model's.

    Nesting is limited before anything recursive sees the text.
    """
    unclosed: list[int] = []
    ends: list[int] = []
    for token in _SCAN.finditer(source.text):
        if token[0] in ("{", "["):
            unclosed.append(token.start())
            if len(unclosed) > MAX_DEPTH:
                span = Span(source, token.start(), token.end())
                message = f"brackets are nested more than {MAX_DEPTH} deep"
                raise SpecError(
                    Diagnostic(code="MOT010", message=message, span=span, help="no key of a spec needs that")
                )
        elif token[0] in ("}", "]") and unclosed:
            unclosed.pop()
            if len(unclosed) == 1 and source.text.startswith("\n", token.end()):
                ends.append(token.end())
    return unclosed, ends


class _Builder:
    """lark's tree to statements with spans; what it is the tree of starts at `start`."""

    def __init__(self, source: SourceFile, start: int = 0) -> None:
        self.source = source
        self.start = start

    def model(self, tree: Parsed) -> Model:
        model = cast("Parsed", tree.children[0])
        _, name, body = model.children
        return Model(
            name=self.name(name) if name is not None else None,
            body=self.block(cast("Parsed", body)),
            span=self.span(model),
        )

    def span(self, tree: Parsed) -> Span:
        """From the first token to the last: every rule keeps those, which is faster than lark's own positions.

        A part's trees are read for many texts, and remember it.
        """
        meta = tree.meta
        if meta.empty:
            first, last = self.ends(tree)
            meta.start_pos, meta.end_pos, meta.empty = first.start_pos or 0, last.end_pos or 0, False
        return Span(self.source, self.start + meta.start_pos, self.start + meta.end_pos)

    def ends(self, tree: Parsed) -> tuple[Token, Token]:
        first: object = tree
        while not isinstance(first, str):
            first = next(child for child in cast("Parsed", first).children if child is not None)
        last: object = tree
        while not isinstance(last, str):
            last = next(child for child in reversed(cast("Parsed", last).children) if child is not None)
        return cast("Token", first), cast("Token", last)

    def name(self, child: object) -> Name:
        token = cast("Token", child)
        span = Span(self.source, self.start + (token.start_pos or 0), self.start + (token.end_pos or 0))
        return Name(text=unquote(token, span) if token.type == "STRING" else str(token), span=span)

    def names(self, tree: Parsed) -> tuple[Name, ...]:
        return tuple(
            self.name(child) for child in cast("list[Token]", tree.children) if child.type in ("WORD", "STRING")
        )

    def block(self, tree: Parsed) -> Braces:
        return Braces(statements=tuple(self.statement(child) for child in _trees(tree)), span=self.span(tree))

    def optional_block(self, child: object) -> Braces | None:
        return self.block(cast("Parsed", child)) if child is not None else None

    def value(self, tree: Parsed) -> Value:
        if tree.data == "block":
            return self.block(tree)
        if tree.data == "list":
            return List(items=tuple(self.value(child) for child in _trees(tree)), span=self.span(tree))
        return self.scalar(tree)

    def scalar(self, tree: Parsed) -> Scalar:
        token, span = cast("Token", tree.children[0]), self.span(tree)
        if token.type == "STRING":
            return Scalar(value=unquote(str(token), span), span=span)
        return Scalar(value=read_word(re.sub(r"[ \t]+", "", token), span), span=span)

    def layer_range(self, tree: Parsed) -> Scalar:
        """`3`, `0..3`, and `0..9 step 3` in one."""
        layers, *steps = (self.scalar(child) for child in _trees(tree))
        value = " step ".join(str(each.value) for each in (layers, *steps))
        return Scalar(value=value, span=self.span(tree)) if steps else layers

    def statement(self, tree: Parsed) -> Statement:
        span, children = self.span(tree), cast("list[Parsed]", tree.children)
        match tree.data:
            case "setting" | "nested":
                return Setting(key=self.name(children[0]), value=self.value(children[1]), span=span)
            case "extends":
                token, base = cast("Token", children[0]), self.name(children[1])
                key = Name(text="extends", span=Span(self.source, span.start, span.start + len(token)))
                return Setting(key=key, value=Scalar(value=base.text, span=base.span), span=span)
            case "modality":
                items = [(self.name(item), self.optional_block(block)) for item, block in map(_pair, children[1:])]
                return Modality(items=tuple(items), span=span)
            case "tower":
                _, name, names, block = children
                modalities = self.names(names) if names is not None else ()
                return Tower(name=self.name(name), modalities=modalities, block=self.optional_block(block), span=span)
            case "layers":
                _, layers, block = children
                return Layers(layers=self.layer_range(layers), block=self.block(block), span=span)
            case _:
                _, names, blocks, layers = children
                groups = (
                    [(self.span(group), self.names(group)) for group in _trees(blocks)] if blocks is not None else []
                )
                return Untie(
                    groups=self.names(names),
                    blocks=tuple(groups),
                    layers=self.layer_range(layers) if layers is not None else None,
                    span=span,
                )


def _pair(tree: Parsed) -> tuple[Parsed, object]:
    name, block = tree.children
    return cast("Parsed", name), block


def _trees(tree: Parsed) -> list[Parsed]:
    return [child for child in tree.children if child is not None and not isinstance(child, str)]
