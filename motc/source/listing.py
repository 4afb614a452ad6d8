"""Names in a message, as many as can be read."""

from __future__ import annotations

from collections.abc import Sequence


def some(names: Sequence[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def listed(what: str, names: Sequence[str]) -> list[str]:
    """What is wrong with some names, in one text; none where there are no names."""
    return [f"{what} {some(names)}"] if names else []
