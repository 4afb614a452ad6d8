"""Lines of Python that fit: what is too long for one goes on several, as `ruff format` has them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby

LONGEST = 120

MOST_NUMBERS = 16
"""More than so many numbers are not read one by one."""


def statement(start: str, expression: str, *, indent: int = 8, after: int = 0) -> list[str]:
    """A line; where it is too long, what its last brackets hold goes on lines of its own, and so on inwards.

    `after`: how many characters follow it.
    """
    space = " " * indent
    line = f"{space}{start}{expression}"
    if len(line) + after <= LONGEST or expression[-1:] not in tuple(")]}"):
        return [line]
    opening = opening_of(expression)
    head, tail = f"{space}{start}{expression[: opening + 1]}", f"{space}{expression[-1]}"
    content = expression[opening + 1 : -1].removesuffix(",")
    clauses = split_at(content, " for ")
    if len(clauses) > 1:  # a comprehension
        inside = f"{space}    {content}"
        return [head, inside, tail] if len(inside) <= LONGEST else [head, *_clauses(clauses, indent + 4), tail]
    items = split_at(content, ", ")
    inside = f"{space}    {', '.join(items)}"
    alone = len(items) == 1 and expression[-2] == ","  # a tuple of one keeps its comma
    is_listed = len(items) > 1 and not re.search(r"[\w\])]$", expression[:opening])  # a list, a tuple or a dict itself
    if len(inside) <= LONGEST and not alone and not is_listed:
        return [head, inside, tail]
    if len(items) == 1 and not alone:
        return [head, *_item(items[0], indent + 4), tail]
    lines = [head]
    for item in items:
        *others, last = _item(item, indent + 4)
        lines += [*others, f"{last},"]
    return [*lines, tail]


def _item(item: str, indent: int) -> list[str]:
    """An argument, or an entry of a dict, with the comma that follows it."""
    key, colon, value = item.partition(": ") if item.startswith('"') else ("", "", item)
    if not colon:
        name, equals, given = item.partition("=")
        key, colon, value = (name, equals, given) if equals and name.isidentifier() else ("", "", item)
    if len(f"{' ' * indent}{item},") <= LONGEST:
        return [f"{' ' * indent}{item}"]
    return statement(f"{key}{colon}", value, indent=indent, after=1)


def _clauses(clauses: list[str], indent: int) -> list[str]:
    """What a comprehension gives, and each of its `for`s."""
    first, *others = clauses
    lines = statement("", first, indent=indent)
    for other in others:
        lines += statement("for ", other, indent=indent)
    return lines


def opening_of(text: str) -> int:
    """Where the bracket opens that the text's last character closes."""
    depth = 0
    for place in range(len(text) - 1, -1, -1):
        depth += (text[place] in ")]}") - (text[place] in "([{")
        if depth == 0:
            return place
    return 0


def split_at(text: str, mark: str) -> list[str]:
    """What a mark outside of inner brackets parts."""
    parts, depth, start = [], 0, 0
    for place, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0 and text.startswith(mark, place):
            parts.append(text[start:place])
            start = place + len(mark)
    return [*parts, text[start:]]


def loop(start: str, iterated: str) -> list[str]:
    """The first lines of a loop."""
    *lines, last = statement(start, iterated, after=1)
    return [*lines, f"{last}:"]


def method(name: str, arguments: Sequence[str], returned: str) -> list[str]:
    """The first lines of a method; `arguments` after self."""
    line = f"    def {name}({', '.join(['self', *arguments])}) -> {returned}:"
    if len(line) <= LONGEST:
        return [line]
    inside = f"        {', '.join(['self', *arguments])}"
    if len(inside) <= LONGEST:
        return [f"    def {name}(", inside, f"    ) -> {returned}:"]
    return [f"    def {name}(", "        self,", *(f"        {each}," for each in arguments), f"    ) -> {returned}:"]


def docstring(summary: str, *paragraphs: str, indent: int = 4) -> list[str]:
    """A docstring of a line, or of a line and paragraphs that are broken into lines."""
    space = " " * indent
    first, *more = filled(summary, LONGEST - indent - 6)
    if not paragraphs and not more:
        return [f'{space}"""{first}"""']
    lines = [f'{space}"""{first}', *(f"{space}{line}" for line in more)]
    for paragraph in paragraphs:
        lines.append("")
        lines += [f"{space}{line}" for line in filled(paragraph, LONGEST - indent)]
    return [*lines, f'{space}"""']


def filled(text: str, width: int) -> list[str]:
    """Words in lines of at most `width` characters."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def names_tuple(names: Sequence[str | None]) -> str:
    """A tuple of names, as text."""
    return listed(["None" if name is None else f'"{name}"' for name in names])


def listed(items: Sequence[str]) -> str:
    """A tuple of expressions, at least one, as text."""
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"


def numbers(values: Sequence[int]) -> str:
    """A tuple of whole numbers, as text: a long one by what repeats in it."""
    if len(values) <= MOST_NUMBERS:
        return repr(tuple(values))
    for period in range(1, len(values) // 2 + 1):
        if all(value == values[place % period] for place, value in enumerate(values)):
            times, rest = divmod(len(values), period)
            repeated = f"{tuple(values[:period])!r} * {times}"
            return f"{repeated} + {tuple(values[:rest])!r}" if rest else repeated
    runs = ((value, sum(1 for _ in run)) for value, run in groupby(values))
    return " + ".join(f"({value},) * {count}" for value, count in runs)


def literal(values: Mapping[str, object]) -> str:
    """A dict of texts or numbers, as text."""
    pairs = (f'"{key}": ' + (f'"{value}"' if isinstance(value, str) else str(value)) for key, value in values.items())
    return f"{{{', '.join(pairs)}}}"
