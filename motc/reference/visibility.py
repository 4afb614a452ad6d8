"""Who sees whom, token by token, as the definition says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, assert_never

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceMask:
    """Which real tokens j of its document a real token i sees.

    `causal`: j is not after i. `full`: any j. `prefix`: j is not after i, or both are in the document's prefix: its
    leading tokens whose modalities are in `prefix`. `blocks`: the block of j's modality is that of i's or stands
    before it. `bidirectional`, with causal and prefix: i also sees j if both are in one span, which is a run of
    tokens of one such modality that no other token of the row interrupts; padding is no token. `runs`: so it is with
    spans of tokens whose modalities are together in one of them. `delimiters`: the token before such a span in its
    document and the one after it are in that span too, if they are in no such span themselves. `sees`: i sees j only
    if j's modality is listed for i's; a modality without a list sees all. `window`: i sees j only if j is less than so
    many tokens before i, padding not counted; with `full` and `blocks` also less than so many after it. Tokens of
    modalities in `absent` are as padding.

    `detach`: where j's modality is listed for i's, no gradient reaches j's key and value through i.

    `hide_noised`: a token of a noised span of such a modality, and one that delimits it, is seen by those alone that
    are in a span with it.

    `reads`: a token of a modality that has a list sees what all of this says, of the listed modalities alone; or itself
    if that is nothing. To the tokens of others it is as padding.
    """

    kind: Literal["causal", "full", "prefix", "blocks"]
    prefix: tuple[str, ...] = ()
    bidirectional: tuple[str, ...] = ()
    blocks: tuple[tuple[str, ...], ...] = ()
    sees: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    window: int | None = None
    detach: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    runs: tuple[tuple[str, ...], ...] = ()
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    crosses: bool = False
    delimiters: bool = False
    hide_noised: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A real token: its place in the row, its number among real ones, what it is, and the span of the row it is in.

    `whole` are the spans that it is in and that see all of themselves.
    """

    place: int
    number: int
    modality: str
    document: int
    in_prefix: bool
    span: int
    whole: frozenset[int]


def visibility(
    mask: ReferenceMask,
    modalities: tuple[str, ...],
    modality_ids: Tensor,
    document_ids: Tensor | None,
    noised: Tensor | None = None,
) -> Tensor:
    """Bool [B, S, S]: whether the token of the row sees the token of the column. Padding neither sees nor is seen.

    modality_ids and document_ids are int64 [B, S]; -1 is padding, any other id an index into `modalities`. `noised`
    bool [B, S] says which tokens are of noised spans; None: none is.
    """
    rows, length = modality_ids.shape
    visible = [[[False] * length for _ in range(length)] for _ in range(rows)]
    for row in range(rows):
        names = [modalities[index] if index >= 0 else None for index in modality_ids[row].tolist()]
        documents = [0] * length if document_ids is None else document_ids[row].tolist()
        tokens = real_tokens(mask, names, documents)
        hidden = hidden_spans(mask, tokens, [] if noised is None else noised[row].tolist())
        read = real_tokens(mask, [None if name in mask.reads else name for name in names], documents)
        for i in read:
            for j in read:
                visible[row][i.place][j.place] = sees(mask, i, j) and not (j.whole & hidden and not i.whole & j.whole)
        for i in tokens:
            if i.modality in mask.reads:
                seen = [j.place for j in tokens if j.modality in mask.reads[i.modality] and sees(mask, i, j)]
                for place in seen or [i.place]:
                    visible[row][i.place][place] = True
    return torch.tensor(visible, dtype=torch.bool, device=modality_ids.device).reshape(rows, length, length)


def hidden_spans(mask: ReferenceMask, tokens: list[Token], noised: list[bool]) -> frozenset[int]:
    """The spans of one row that only their own tokens see; `noised` says of each place whether it is noised."""
    return frozenset(t.span for t in tokens if noised and noised[t.place] and t.modality in mask.hide_noised)


def real_tokens(mask: ReferenceMask, names: list[str | None], documents: list[int]) -> list[Token]:
    """The tokens of one row that are not padding, in order."""
    tokens: list[Token] = []
    prefix_is_over: set[int] = set()
    span = 0
    for place, (name, document) in enumerate(zip(names, documents, strict=True)):
        if name is None or name in mask.absent:
            continue
        if name not in mask.prefix:
            prefix_is_over.add(document)
        if tokens and (run_of(mask, tokens[-1].modality) != run_of(mask, name) or tokens[-1].document != document):
            span += 1
        in_prefix = document not in prefix_is_over
        whole = frozenset({span} if name in mask.bidirectional or len(run_of(mask, name)) > 1 else ())
        token = Token(
            place=place,
            number=len(tokens),
            modality=name,
            document=document,
            in_prefix=in_prefix,
            span=span,
            whole=whole,
        )
        tokens.append(token)
    return [with_delimited(token, tokens) for token in tokens] if mask.delimiters else tokens


def with_delimited(token: Token, tokens: list[Token]) -> Token:
    """The token, in the spans beside it if it delimits them."""
    beside = tokens[max(token.number - 1, 0) : token.number + 2]
    spans = frozenset().union(*(other.whole for other in beside if other.document == token.document))
    return token if token.whole else replace(token, whole=spans)


def sees(mask: ReferenceMask, i: Token, j: Token) -> bool:
    """Whether i sees j."""
    if i.document != j.document:
        return False
    if i.modality in mask.sees and j.modality not in mask.sees[i.modality]:
        return False
    if mask.window is not None and not is_near(mask, mask.window, i, j):
        return False
    in_one_span = bool(i.whole & j.whole)
    match mask.kind:
        case "full":
            return True
        case "causal":
            return j.place <= i.place or in_one_span
        case "prefix":
            return j.place <= i.place or (i.in_prefix and j.in_prefix) or in_one_span
        case "blocks":
            return block_of(mask, j) <= block_of(mask, i)
        case _:
            assert_never(mask.kind)


def run_of(mask: ReferenceMask, modality: str) -> tuple[str, ...]:
    """The modalities whose tokens do not end a span of this one's."""
    return next((run for run in mask.runs if modality in run), (modality,))


def is_near(mask: ReferenceMask, window: int, i: Token, j: Token) -> bool:
    """Whether j is within i's window."""
    match mask.kind:
        case "causal" | "prefix":
            return i.number - j.number < window
        case "full" | "blocks":
            return abs(i.number - j.number) < window
        case _:
            assert_never(mask.kind)


def block_of(mask: ReferenceMask, token: Token) -> int:
    """The place of a token's block in the order of blocks."""
    return next(place for place, block in enumerate(mask.blocks) if token.modality in block)
