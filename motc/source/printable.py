"""Text as a terminal may be given it: nothing that moves the cursor, colours, or hides what stands around it."""

from __future__ import annotations

import re
import unicodedata

LONGEST_QUOTED, LONGEST_WORD, KEPT = 100, 300, 60
_QUOTED = re.compile(rf"`([^`]*)`|\S{{{LONGEST_WORD + 1},}}")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(char: str) -> str:
    """A character that prints, or its escape as a quoted string of a spec has it: `\\n`, `\\u001b`."""
    if char.isprintable():
        return char
    return _SHORT.get(char) or (f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")


def printable(text: str) -> str:
    """The text with every character that does not print escaped."""
    return text if text.isprintable() else "".join(map(escape, text))


def shortened(text: str) -> str:
    """A message whose quotations and words are of a length to be read: the start of each that is not, and `…`."""
    return _QUOTED.sub(_shortened, text)


def _shortened(match: re.Match[str]) -> str:
    if match[1] is None:
        return cut(match[0])
    return f"`{cut(match[1])}`" if len(match[1]) > LONGEST_QUOTED else match[0]


def cut(text: str) -> str:
    """The text, or its start and `…`: 60 characters at most."""
    return text if len(text) <= KEPT else f"{text[: KEPT - 3]}…"


def columns(text: str) -> int:
    """How many columns of a terminal a printable text takes: two for a wide character, none for a combining one."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
