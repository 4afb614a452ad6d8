"""Generating token by token: what comes next, and what is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .cache import Cache, NewTokens, held
from .constants import on_device
from .generate_checks import (
    TokenSpan,
    check_drawing,
    check_prompt,
    checked_spans,
    checked_stops,
    generator_of,
    whole,
)
from .last_tokens import last_tokens
from .masks import in_delimited_runs
from .tokens import in_last_document


class Generated(NamedTuple):
    """What was generated, without the prompt: int64 [B, N], where a row has ended modality -1 and id 0."""

    input_ids: Tensor
    modality_ids: Tensor


class Row:
    """Where a row stands: its number of tokens, and which modality comes next."""

    def __init__(self, model: Any, spans: Mapping[str, TokenSpan]) -> None:
        self.model, self.spans = model, spans
        self.begins = {(span["within"], span["begin"]): name for name, span in spans.items() if "begin" in span}
        self.length, self.run, self.next = 0, 0, ""
        self.offset = 0  # of positions: what the token in slot n has beyond n, if it is one to come
        self.placed: Any = None  # the position of its last token
        self.last, self.before = -1, -1  # the modalities of its last token and of the one before
        self.placing = model.placing() if model.position_rules else None  # what places them by rules, if that is done
        self.prefixes = [mask.prefix for mask in model.masks if mask.prefix]  # those it has not left yet

    def place(self, modality: int, grid: tuple[int, ...] = ()) -> Any:
        """The position of the token that comes next, before it is followed: a number, or one for each axis."""
        self.placed = self.length + self.offset
        if self.placing is not None:
            place = self.placing.next(modality, grid)
            self.placed = place[0] if len(place) == 1 else place
        return self.placed

    def place_behind(self, modality: int) -> Any:
        """The position of a token of a modality that comes behind those that were placed, none being placed by it."""
        place = deepcopy(self.placing).next(modality, ())  # type: ignore[union-attr]
        return place[0] if len(place) == 1 else place

    def follow(self, token: int, modality: str) -> None:
        """Go on by one token of a modality."""
        self.length += 1
        index = self.model.modalities.index(modality)
        self.before, self.last = self.last, index
        self.prefixes = [prefix for prefix in self.prefixes if index in prefix]
        span = self.spans.get(modality)
        self.run = self.run + 1 if span else 0
        self.next = self.begins.get((modality, token), modality)
        if span and self.run == span.get("length"):
            self.run, self.next = 0, span["within"]

    def modality_of(self, token: int) -> str:
        """The modality of a token drawn next: the one expected, unless the token ends its span."""
        span = self.spans.get(self.next)
        return span["within"] if span and token == span.get("end") else self.next

    def check_next(self) -> None:
        """Raise ValueError if what comes next would be seen by tokens before it."""
        index = self.model.modalities.index(self.next)
        both_ways = any(index in mask.bidirectional for mask in self.model.masks)
        if self.next in self.model.vocabularies and both_ways:
            raise ValueError(f"tokens of {self.next} see later ones of their run: they cannot be generated one by one")
        if any(index in run for mask in self.model.masks for run in mask.runs):
            raise ValueError(
                f"{self.next} is in runs with others, which see all of themselves: only a prompt can have it"
            )
        if self.last in in_delimited_runs(self.model.masks):
            before = self.model.modalities[self.last]
            raise ValueError(f"what comes after {before} is seen by that: a prompt has it, or `spans` say it as an end")
        if any(index in prefix for prefix in self.prefixes):
            raise ValueError(f"{self.next} belongs to the prefix, which sees all of itself: only a prompt can have it")


class Prompts(NamedTuple):
    """Each row's last document without its padding, from the left, with padding at its end alone: int64 [B, L]."""

    input_ids: Tensor
    modality_ids: Tensor
    position_ids: Tensor | None  # [B, L] or [B, L, axes]; None: from 0
    lengths: list[int]
    offsets: list[int]  # what the position after a row's last is beyond the row's length


def compact(
    input_ids: Tensor, modality_ids: Tensor, document_ids: Tensor | None, position_ids: Tensor | None
) -> Prompts:
    """The prompts of a batch; their positions go on after the largest. Raises ValueError for a row of padding."""
    real = in_last_document(modality_ids, document_ids)
    lengths: list[int] = real.sum(1).tolist()
    if not lengths or not min(lengths):
        raise ValueError("each row of a prompt needs a token that is not padding")
    order = torch.argsort((~real).to(torch.uint8), dim=1, stable=True)[:, : max(lengths)]
    kept = torch.where(real, modality_ids, -1).gather(1, order)
    ids = torch.where(kept >= 0, input_ids.gather(1, order), 0)
    if position_ids is None:
        return Prompts(ids, kept, None, lengths, [0] * len(lengths))
    rows = torch.arange(kept.shape[0], device=kept.device)[:, None]
    positions = position_ids.expand(*modality_ids.shape, *position_ids.shape[2:])[rows, order]
    largest = positions.amax(2) if positions.ndim == 3 else positions
    ends = torch.where(kept >= 0, largest, torch.iinfo(torch.int64).min).amax(1).tolist()
    offsets = [end + 1 - length for end, length in zip(ends, lengths, strict=True)]
    return Prompts(ids, kept, positions, lengths, offsets)


def sample(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator | None) -> list[int]:
    """One token for each row of logits [n, V]: the likeliest if the temperature is 0, else drawn.

    `top_p` keeps the fewest tokens whose probabilities reach it (Holtzman et al., arXiv 1904.09751). Raises ValueError
    for logits that are NaN or infinite: they say nothing of what is likely.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    most, tokens = wide.max(dim=-1, keepdim=True)
    if temperature > 0:
        scaled = torch.where(wide < most, (wide - most) / temperature, 0.0)
        probabilities, ids = torch.softmax(scaled, dim=-1).sort(dim=-1, descending=True)
        before = probabilities.cumsum(-1) - probabilities
        kept = before < max(top_p, torch.finfo(before.dtype).tiny)  # the likeliest one always
        drawn = torch.multinomial(torch.where(kept, probabilities, 0.0), 1, generator=generator)
        tokens = ids.gather(1, drawn)
    tokens_and_checks: list[list[int]] = torch.cat([tokens, most.isfinite().to(tokens.dtype)], dim=1).tolist()
    if not all(is_number for _, is_number in tokens_and_checks):
        raise ValueError("logits are NaN or infinite: no token can be drawn from them")
    return [token for token, _ in tokens_and_checks]


def draw(logits: Any, modalities: Sequence[str], active: list[int], **how: Any) -> dict[int, int]:
    """A token for each active row, from the logits of its next modality."""
    if isinstance(logits, Tensor):
        return dict(zip(active, sample(logits[active], **how), strict=True))
    drawn: dict[int, int] = {}
    for modality in sorted({modalities[row] for row in active}):
        rows = [row for row in active if modalities[row] == modality]
        drawn.update(zip(rows, sample(logits[modality][rows], **how), strict=True))
    return drawn


class Decoding:
    """Rows that are continued: where each stands, the tokens it got, and the cache of what it has seen."""

    layout: Any

    def __init__(
        self,
        model: Any,
        rows: list[Row],
        modality_ids: Tensor,
        max_new_tokens: int,
        stop: Mapping[str, Iterable[int]],
        *,
        rolls: bool = False,
        **how: Any,
    ) -> None:
        """`modality_ids` int64 [B, L] are the prompts'; `how` is what `sample` takes.

        `rolls`: layers that see the last tokens alone keep no others, as tokens come one by one.
        Raises TypeError or ValueError for choices.
        """
        check_drawing(how["temperature"], how["top_p"])
        self.model, self.rows, self.how = model, rows, how
        self.max_new_tokens = max_new_tokens = whole("max_new_tokens", max_new_tokens, positive=True)
        self.stops = checked_stops(model, stop)
        self.made: list[list[tuple[int, int]]] = [[] for _ in rows]  # tokens, and the ids of their modalities
        self.active = list(range(len(rows)))
        self.known = nn.functional.pad(modality_ids, (0, max_new_tokens), value=-1)
        self.kept = [mask.kept if rolls else None for mask in model.masks]  # how many tokens, for each mask
        windows = [self.kept[mask] for mask in model.layer_masks or [0] * len(model.layers)]
        self.cache = Cache(len(model.layers), self.known.shape[1], windows)

    def start(self, prompts: Prompts, **given: Any) -> Any:
        """The logits after the prompts, and what is given with them."""
        self.cache.lengths = on_device(prompts.lengths, self.known.device)
        self.layout = self.model.layout(prompts.modality_ids)
        self.cache.last = last_tokens(self.model, prompts.modality_ids, prompts.lengths)
        given |= {"position_ids": prompts.position_ids, "layout": self.layout}
        return self.seen(prompts.input_ids, prompts.modality_ids, **given)

    def seen(self, ids: Tensor, modality_ids: Tensor, **given: Any) -> Any:
        """The logits [B, V] of what follows these tokens of each row; of own vocabularies those that are wanted."""
        self.want()
        logits = self.model(ids, modality_ids, cache=self.cache, **given).logits
        return {name: of[:, 0] for name, of in logits.items()} if isinstance(logits, dict) else logits[:, 0]

    def want(self) -> None:
        """Tell the cache which modalities come next, so that logits are made for these alone."""
        following = {self.rows[row].next for row in self.active}
        self.cache.wanted = tuple(name for name in self.model.vocabularies if name in following)

    def drawn(self, logits: Any, rows: list[int]) -> dict[int, tuple[int, str]]:
        """A token and its modality for each of these rows. Raises ValueError where none can be generated."""
        for row in rows:
            self.rows[row].check_next()
        tokens = draw(logits, [state.next for state in self.rows], rows, **self.how)
        return {row: (token, self.rows[row].modality_of(token)) for row, token in tokens.items()}

    def feed(self, given: Mapping[int, tuple[int, str]]) -> Any:
        """Give each active row its token; the logits of what comes next, or None if no row goes on."""
        fed: dict[int, tuple[int, int]] = {}
        for row, (token, modality) in given.items():
            index = self.model.modalities.index(modality)
            self.made[row].append((token, index))
            if token not in self.stops.get(modality, ()) and len(self.made[row]) < self.max_new_tokens:
                fed[row] = (token, index)
        self.active = sorted(fed)
        if not self.active:
            return None
        idle = (0, fed[self.active[0]][1])  # a row that has ended brings in no other parameters, and is not read
        tokens, modalities = zip(*(fed.get(row, idle) for row in range(len(self.rows))), strict=True)
        at = [state.length if row in fed else state.length - 1 for row, state in enumerate(self.rows)]
        placed = {row: self.rows[row].place(index) for row, (_, index) in fed.items()}
        places = [placed.get(row, placed[self.active[0]]) for row in range(len(self.rows))]
        for row, (token, index) in fed.items():
            self.rows[row].follow(token, self.model.modalities[index])
        numbers = [tokens, modalities, at]
        if self.model.position_axes == 1:
            ids, modality_ids, slots, positions = on_device([*numbers, places], self.known.device)[:, :, None]
        else:
            ids, modality_ids, slots = on_device(numbers, self.known.device)[:, :, None]
            positions = on_device([[place] for place in places], self.known.device)
        rows = torch.arange(len(at), device=slots.device)[:, None]
        self.known[rows, slots] = modality_ids
        self.cache.step = NewTokens(rows, slots, max(at) + 1)
        masks = self.masks(modality_ids, slots, max(at) + 1, min(at) + 1)
        known, each = self.known[:, : max(at) + 1], zip(self.model.masks, masks, strict=True)
        found = [mask.found_by_next(modality_ids, known, seen) for mask, seen in each]
        layout = layout_of_step(self.model, self.layout, set(modalities), modality_ids, positions, masks, found)
        return self.seen(ids, modality_ids, layout=layout)

    def masks(self, modality_ids: Tensor, slots: Tensor, longest: int, shortest: int) -> list[Tensor | None]:
        """Which of the tokens that are kept one more of each row sees by each mask, bool [B, 1, 1, n]; None: all.

        It stands in `slots` int64 [B, 1]; with it the longest row and the shortest have so many tokens.
        """
        known = self.known[:, :longest]
        masks: list[Tensor | None] = []
        for mask, kept in zip(self.model.masks, self.kept, strict=True):
            seen, room = mask.seen_by_next(modality_ids, known), longest if kept is None else min(kept, longest)
            hides_more = (
                mask.kernel is None if room < longest else seen is not None
            )  # than padding, and what is not kept
            if not hides_more and shortest >= room:
                masks.append(None)
                continue
            seen = known >= 0 if seen is None else seen & (known >= 0)
            if room < longest:
                places = held(slots[:, 0] + 1, room)
                seen = seen.gather(1, places.clamp(min=0)) & (places >= 0)
            masks.append(seen[:, None, None])
        return masks

    def result(self) -> tuple[Tensor, Tensor]:
        """The ids that each row got and their modalities, int64 [B, N]; where a row has ended 0 and -1."""
        longest = max(map(len, self.made))
        padded = self.known.new_tensor([row + [(0, -1)] * (longest - len(row)) for row in self.made])
        return padded[:, :, 0], padded[:, :, 1]


def layout_of_step(
    model: Any,
    before: Any,
    modalities: set[int],
    modality_ids: Tensor,
    positions: Tensor,
    masks: list[Tensor | None],
    found: Sequence[Tensor | None] = (),
) -> Any:
    """The layout of S more tokens of each row, [B, S], of these modalities. `before` is a layout of the model's."""
    places = {model.alike[modality] for modality in modalities} if model.alike else set()
    layout = before.of_one(places.pop(), modality_ids) if len(places) == 1 else model.layout(modality_ids)
    return layout._replace(rows=layout.rows.of_step(positions, masks, found))


def uncompiled() -> AbstractContextManager[None]:
    """Nothing is compiled in here, for lengths differ from call to call; what was compiled runs as it was written."""
    set_stance = getattr(torch.compiler, "set_stance", None)
    return nullcontext() if set_stance is None else set_stance("force_eager")


def followed(
    model: Any, spans: Mapping[str, TokenSpan], prompts: Prompts, latents: Mapping[str, Tensor] | None = None
) -> list[Row]:
    """For each prompt, with these latents in all of them, a `Row` that has followed its tokens to the last."""
    grids: dict[int, tuple[int, ...]] = {}
    if model.position_rules:
        grids = {model.modalities.index(name): model.grid_of(name, x) for name, x in (latents or {}).items()}
    rows = [Row(model, spans) for _ in prompts.lengths]
    ids, modality_ids = prompts.input_ids.tolist(), prompts.modality_ids.tolist()
    for row, tokens, of, length, offset in zip(rows, ids, modality_ids, prompts.lengths, prompts.offsets, strict=True):
        if row.placing and prompts.position_ids is not None:
            row.placing = model.placing(length + offset)
        row.offset = offset
        for token, index in zip(tokens[:length], of[:length], strict=True):
            if prompts.position_ids is None:
                row.place(index, grids.get(index, ()))
            row.follow(token, model.modalities[index])
    if prompts.position_ids is not None:
        for number, (row, length) in enumerate(zip(rows, prompts.lengths, strict=True)):
            row.placed = prompts.position_ids[number, length - 1].tolist()
    return rows


@torch.no_grad()
def generate_tokens(
    model: Any,
    input_ids: Tensor,
    modality_ids: Tensor,
    document_ids: Tensor | None,
    position_ids: Tensor | None,
    spans: Mapping[str, TokenSpan],
    given: Mapping[str, Any] | None = None,
    **choices: Any,
) -> Generated:
    """See the model's `generate`; `choices` are what `Decoding` takes besides, `given` what goes with the prompts."""
    spans = checked_spans(model, spans)
    prompts = compact(input_ids, modality_ids, document_ids, position_ids)
    decoding = Decoding(model, followed(model, spans, prompts), prompts.modality_ids, rolls=True, **choices)
    with uncompiled():
        logits = decoding.start(prompts, **(given or {}))
        while decoding.active:
            logits = decoding.feed(decoding.drawn(logits, decoding.active))
    return Generated(*decoding.result())


class GeneratesTokens:
    """A model that can continue a prompt, token by token."""

    def generate(
        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        *,
        max_new_tokens: int,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        spans: Mapping[str, TokenSpan] | None = None,
        stop: Mapping[str, Iterable[int]] | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | torch.Generator | None = 0,
    ) -> Generated:
        """Continue each row of a prompt, ids int64 [B, S]; padding (-1) is dropped wherever it stands.

        A row goes on in the modality it ends with, but for `spans`: for a modality, which tokens begin and end it.
        `stop` has, for a modality, the tokens after which a row ends. Temperature 0 takes the likeliest token.
        Positions are from 0, or as `forward` takes them, and go on after a row's largest.
        Raises ValueError, or TypeError, for ids that do not fit, for what the model does not have.
        """
        check_prompt(self, input_ids, modality_ids, document_ids, position_ids)
        return generate_tokens(
            self,
            input_ids,
            modality_ids,
            document_ids,
            position_ids,
            {} if spans is None else spans,
            max_new_tokens=max_new_tokens,
            stop={} if stop is None else stop,
            temperature=temperature,
            top_p=top_p,
            generator=generator_of(seed, input_ids.device),
        )
