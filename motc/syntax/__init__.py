"""Two syntaxes, `.mot` and YAML, read to one positioned tree and written back from it.

The parsers are imported when a file needs them: a `.mot` user never waits for yaml, nor a YAML user for lark.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal, assert_never

from motc.source import Diagnostic, SourceFile, Span, SpecError
from motc.syntax.files import read_file
from motc.syntax.tree import Mapping

if TYPE_CHECKING:
    from motc.syntax.comments import Comments

Syntax = Literal["mot", "yaml"]

__all__ = ["Syntax", "convert", "format_source", "read", "read_file", "syntax_of", "write"]


def syntax_of(source: SourceFile) -> Syntax:
    """The syntax that a source's suffix names. Raises SpecError for any other suffix."""
    suffix = PurePath(source.name).suffix.lower()
    match suffix:
        case ".mot":
            return "mot"
        case ".yaml" | ".yml":
            return "yaml"
        case _:
            what = f"unknown suffix `{suffix}`" if suffix else "no suffix"
            message = f"{source.name} has {what}"
            raise SpecError(
                Diagnostic(code="MOT001", message=message, span=None, help="name the spec .mot, .yaml or .yml")
            )


def read(source: SourceFile) -> Mapping:
    """The tree of a spec's text. Raises SpecError, and nothing else whatever the text."""
    syntax = _checked(source)
    match syntax:
        case "mot":
            from motc.syntax.mot_reader import read_mot

            return read_mot(source)
        case "yaml":
            from motc.syntax.yaml_reader import read_yaml

            return read_yaml(source)
        case _:
            assert_never(syntax)


def write(tree: Mapping, syntax: Syntax, comments: Comments | None = None) -> str:
    """The canonical text of a tree, with the comments of the text it was read from if they are given."""
    match syntax:
        case "mot":
            from motc.syntax.mot_writer import write_mot

            return write_mot(tree, comments)
        case "yaml":
            from motc.syntax.yaml_writer import write_yaml

            return write_yaml(tree, comments)
        case _:
            assert_never(syntax)


def convert(source: SourceFile, to: Syntax) -> str:
    """A spec's text in canonical form in the other syntax, or the same: the same tree, with its comments.

    A comment stays with the line it stands at or before; in YAML the statements of a kind stand together, and so do
    their comments. Raises SpecError.
    """
    from motc.syntax.comments import Comments

    syntax = _checked(source)
    match syntax:
        case "mot":
            from motc.syntax.mot_reader import read_mot, scan_comments

            tree, comments = read_mot(source), scan_comments(source)
        case "yaml":
            from motc.syntax.yaml_reader import parse_yaml

            tree, comments = parse_yaml(source)
        case _:
            assert_never(syntax)
    text = write(tree, to, Comments(source, comments))
    return format_source(SourceFile(f"{source.name}.{to}", text)) if comments else text


def format_source(source: SourceFile) -> str:
    """A spec's text in canonical form with its comments: the same tree; formatting twice changes nothing more."""
    syntax = _checked(source)
    match syntax:
        case "mot":
            from motc.syntax.mot_writer import format_mot

            return format_mot(source)
        case "yaml":
            from motc.syntax.yaml_writer import format_yaml

            return format_yaml(source)
        case _:
            assert_never(syntax)


def _checked(source: SourceFile) -> Syntax:
    """The syntax, once the text holds something and no character that is none."""
    syntax = syntax_of(source)
    if not re.sub(r"#[^\n]*", "", source.text).strip():
        raise SpecError(
            Diagnostic(
                code="MOT004",
                message=f"{source.name} holds no spec",
                span=None,
                help="start with `model NAME { ... }`, or `model: NAME` in YAML",
            )
        )
    if strange := re.search(
        r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]", source.text
    ):
        char = strange[0]
        raise SpecError(
            Diagnostic(
                code="MOT003",
                message=f"the character U+{ord(char):04X} does not belong in a text",
                span=Span(source, strange.start(), strange.end()),
                help="delete it; in a quoted string it can be written as \\u and four digits",
            )
        )
    return syntax
