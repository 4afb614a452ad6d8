"""Plain words to values and back, the same in both syntaxes: 1e-5 is a number; no, yes, on, .inf and .nan are words."""

from __future__ import annotations

import math
import re

from motc.source import Diagnostic, Span, SpecError
from motc.source.printable import escape

LONGEST_NUMBER = 40

_INTEGER = re.compile(r"[-+]?[0-9]+(?:_[0-9]+)*")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_ESCAPE = re.compile(r'\\(?:(["\\/nrt])|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.?))', re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


def read_word(text: str, span: Span) -> str | int | float | bool | None:
    """The value of an unquoted word. Raises SpecError for numbers beyond all sizes."""
    if text in _WORDS:
        return _WORDS[text]
    is_integer = _INTEGER.fullmatch(text) is not None
    if not is_integer and _FLOAT.fullmatch(text) is None:
        return text
    value: int | float = math.inf
    if len(text) <= LONGEST_NUMBER:
        value = int(text) if is_integer else float(text)
    if value in (math.inf, -math.inf):
        raise SpecError(
            Diagnostic(
                code="MOT006", message="the number is too large or too long", span=span, help="quote it if it is text"
            )
        )
    return value


def worked_out(text: str) -> str:
    """The number that `1/8`, `64 * 1024` or `256 ** -0.5` is, as a spec says it; nothing for other texts."""
    parts = re.fullmatch(r"([0-9.]{1,20})[ \t]*(/|\*\*?)[ \t]*(-?[0-9.]{1,20})", text)
    if parts is None or not all(_FLOAT.fullmatch(each) for each in (parts[1], parts[3])):
        return ""
    one, other = float(parts[1]), float(parts[3])
    try:
        number = one / other if parts[2] == "/" else one * other if parts[2] == "*" else one**other
    except (ZeroDivisionError, OverflowError):
        return ""
    return write_scalar(number).removesuffix(".0")


def write_scalar(value: str | int | float | bool | None) -> str:
    """A value as `read_word` reads it, or a quoted string."""
    match value:
        case str():
            return write_text(value)
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return re.sub(r"e(-?)\+?0*", r"e\1", repr(value))


def write_text(text: str) -> str:
    """A string that may stand unquoted, or quoted."""
    return text if is_word(text) else quote(text)


def is_word(text: str) -> bool:
    """Whether `text` unquoted reads as itself, in both syntaxes and to other readers of YAML."""
    if text.lower() in ("true", "false", "null", "yes", "no", "on", "off", "y", "n"):
        return False
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*|[0-9]{1,9}\.\.[0-9]{1,9}", text) is not None


def quote(text: str) -> str:
    """A double-quoted string of both syntaxes."""
    return '"' + "".join("\\" + char if char in '"\\' else escape(char) for char in text) + '"'


def unquote(text: str, span: Span) -> str:
    """The text of a double-quoted string of a `.mot` file. Raises SpecError for unknown escapes."""
    if "\\" not in text:
        return text[1:-1]

    def value(match: re.Match[str]) -> str:
        simple, short, long, _ = match.groups()
        if simple:
            return _ESCAPED.get(simple, simple)
        code = int(short or long or "110000", 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise SpecError(
                Diagnostic(
                    code="MOT006",
                    message=f"unknown escape `{match[0]}` in a string",
                    span=span,
                    help='use \\n, \\t, \\", \\\\ or \\u and four hexadecimal digits',
                )
            )
        return chr(code)

    return _ESCAPE.sub(value, text[1:-1])
