"""Coloured text: specs and generated models, line by line, each of which can be pointed at."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from pygments.lexer import Lexer, RegexLexer, words
from pygments.lexers.data import YamlLexer
from pygments.lexers.python import PythonLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Whitespace, _TokenType

STATEMENTS = ("model", "extends", "modality", "tower", "layers", "layer", "untie", "as", "in", "step")

LOOKS: tuple[tuple[_TokenType, str], ...] = (
    (Comment, "c"),
    (String, "s"),
    (Keyword, "k"),
    (Number, "m"),
    (Name.Class, "d"),
    (Name.Function, "d"),
    (Name.Decorator, "d"),
    (Name.Builtin, "b"),
    (Name.Tag, "b"),
    (Operator.Word, "k"),
)
"""The kinds of tokens that have a colour, with the class that gives it."""


class MotLexer(RegexLexer):  # type: ignore[misc]
    """The `.mot` syntax."""

    name = "motc spec"
    aliases = ["mot"]  # noqa: RUF012 (these are pygments' own)
    filenames = ["*.mot"]  # noqa: RUF012
    tokens = {  # noqa: RUF012
        "root": [
            (r"#[^\n]*", Comment),
            (r'"[^"\n]*"', String),
            (words(STATEMENTS, prefix=r"(?<![\w.=])", suffix=r"\b(?!\s*[=.])"), Keyword),
            (r"-?\d[\d_.]*(?:e[-+]?\d+)?\b", Number),
            (r"[A-Za-z_][\w.*]*(?=\s*[={])", Name.Tag),
            (r"[\w.*]+", Name),
            (r"[{}\[\](),;]", Punctuation),
            (r"[=.*]+", Operator),
            (r"\s+", Whitespace),
            (r".", Name),
        ]
    }


def coloured(text: str, prefix: str, language: str) -> str:
    """A `pre` of the text in `mot`, `yaml` or `python`; line n has the id `PREFIXn`."""
    lexers: dict[str, type[Lexer]] = {"mot": MotLexer, "yaml": YamlLexer, "python": PythonLexer}
    lexer = lexers[language](stripnl=False, ensurenl=False)
    lines = (f'<span class="line" id="{prefix}{number}">{line}</span>' for number, line in _lines(lexer, text))
    return f'<pre class="code" tabindex="0">{"".join(lines)}</pre>'


def _lines(lexer: Lexer, text: str) -> Iterator[tuple[int, str]]:
    number, line = 1, ""
    for kind, value in lexer.get_tokens(text):
        look = next((look for parent, look in LOOKS if kind in parent), "")
        for place, part in enumerate(value.split("\n")):
            if place:
                yield number, f"{line}\n"
                number, line = number + 1, ""
            if part:
                line += f'<i class="{look}">{escape(part, quote=False)}</i>' if look else escape(part, quote=False)
    if line:
        yield number, f"{line}\n"
