"""What a mistyped word was probably meant to be."""

from __future__ import annotations

from collections.abc import Iterable

from motc.source.way_out import WayOut

# What other programs add to the same names: `num_heads`, `vocab_size`.
_FILLERS = frozenset("n num number of size count".split())


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word nearest to `word`, or None where none is near enough to be a slip of the hand.

    Near is: the same but for capitals or for words such as `num` and `size`, or so few letters inserted, left out,
    changed or swapped with their neighbour that most of the word is right: one in a word of three to seven letters, two
    in one of eight, and so on. `window` is not near `kind`, nor `cross_attention` near `attention`.
    """
    plain = _plain(word)
    limit = max(1, len(plain) // 4)
    best: tuple[int, str] | None = None
    for each in known:
        other = _plain(each)
        bound = limit if max(len(plain), len(other)) > 2 else 0  # one letter of two says nothing
        if best is not None:
            bound = min(bound, best[0] - 1)
        distance = _distance(plain, other, bound) if bound >= 0 else None
        if distance is not None:
            best = (distance, each)
    return None if best is None else best[1]


def suggestion(word: str, known: Iterable[str], otherwise: str) -> str:
    """`did you mean …?`, or `otherwise` where nothing is near."""
    close = nearest(word, known)
    return WayOut(f"did you mean `{close}`?", close) if close else otherwise


def _plain(word: str) -> str:
    parts = word.lower().replace("-", "_").split("_")
    return "_".join([part for part in parts if part not in _FILLERS] or parts)


def _distance(one: str, other: str, bound: int) -> int | None:
    """How many letters are inserted, left out, changed or swapped with their neighbour; None if more than `bound`."""
    if abs(len(one) - len(other)) > bound:
        return None
    above: list[int] = []
    row = list(range(len(other) + 1))
    for i, char in enumerate(one):
        two_above, above, row = above, row, [i + 1]
        for j, there in enumerate(other):
            cost = min(above[j + 1] + 1, row[j] + 1, above[j] + (char != there))
            if i and j and char == other[j - 1] and one[i - 1] == there:
                cost = min(cost, two_above[j - 1] + 1)
            row.append(cost)
        if min(row) > bound:
            return None
    return row[-1] if row[-1] <= bound else None
