"""Who sees whom in a short document, as rows of a matrix: what a mask means, to look at.

The document has a few tokens of each modality in turn and, with few modalities, more of the first at the end: text,
image, text. A window is drawn as one of a few tokens, for those of models are longer than any picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from motc.ir.mask import Mask

Names = tuple[str, ...]

FEW = 3
"""Up to so many modalities the first one's tokens come again at the end."""

WINDOW = 3
"""The most tokens that a window has in a picture."""


@dataclass(frozen=True, slots=True)
class MaskPicture:
    """The modality of each token of a document, and for each token which ones it sees."""

    tokens: Names
    sees: tuple[tuple[bool, ...], ...]


def mask_picture(mask: Mask, modalities: Names) -> MaskPicture:
    """The picture of a mask of a model with these modalities."""
    tokens = document(modalities)
    return MaskPicture(tokens, tuple(tuple(row) for row in visible(mask, tokens)))


def document(modalities: Names) -> Names:
    """`text text text image image image image text text text`."""
    count = 4 if len(modalities) <= FEW else 3 if len(modalities) <= 6 else 2
    tokens = tuple(name for name in modalities for _ in range(count))
    return (*tokens, *modalities[:1] * (count - 1)) if 1 < len(modalities) <= FEW else tokens


def visible(mask: Mask, tokens: Names) -> list[list[bool]]:
    """Whether the token of a row sees that of a column, in one document of clean spans."""
    read = dict(mask.reads)
    others = [place for place, name in enumerate(tokens) if name not in mask.absent and name not in read]
    matrix = [[False] * len(tokens) for _ in tokens]
    for i in others:
        for j in others:
            matrix[i][j] = not mask.crosses and _sees(mask, tokens, others, i, j)
    present = [place for place, name in enumerate(tokens) if name not in mask.absent]
    for i in present:
        if tokens[i] in read:
            seen = [j for j in present if tokens[j] in read[tokens[i]] and _sees(mask, tokens, present, i, j)]
            for j in seen if mask.crosses else seen or [i]:
                matrix[i][j] = True
    return matrix


def _sees(mask: Mask, tokens: Names, real: list[int], i: int, j: int) -> bool:
    """Whether token i sees token j, both among the `real` ones."""
    if tokens[j] not in dict(mask.sees).get(tokens[i], (tokens[j],)):
        return False
    apart = real.index(i) - real.index(j)
    if mask.window is not None and (abs(apart) if mask.looks_ahead_as_far else apart) >= min(mask.window, WINDOW):
        return False
    spans = _spans(mask, tokens, real)
    together = bool(spans[i] & spans[j])
    match mask.kind:
        case "full":
            return True
        case "causal":
            return j <= i or together
        case "prefix":
            length = next((place for place, at in enumerate(real) if tokens[at] not in mask.prefix), len(real))
            lead = real[:length]
            return j <= i or (i in lead and j in lead) or together
        case "blocks":
            rank = {name: place for place, block in enumerate(mask.blocks) for name in block}
            return rank[tokens[j]] <= rank[tokens[i]]
        case _:
            assert_never(mask.kind)


def _spans(mask: Mask, tokens: Names, real: list[int]) -> dict[int, frozenset[int]]:
    """By token the unbroken runs that it is in and that see all of themselves, each called by its first token."""
    runs = {name: (name,) for name in mask.bidirectional} | {name: run for run in mask.runs for name in run}
    spans: dict[int, frozenset[int]] = {}
    start = 0
    for place, at in enumerate(real):
        own = runs.get(tokens[at])
        if place == 0 or own is None or tokens[real[place - 1]] not in own:
            start = at
        spans[at] = frozenset() if own is None else frozenset({start})
    if mask.delimiters:
        beside = {at: (*real[max(place - 1, 0) : place], *real[place + 1 : place + 2]) for place, at in enumerate(real)}
        spans |= {
            at: frozenset().union(*(spans[each] for each in near)) for at, near in beside.items() if not spans[at]
        }
    return spans
