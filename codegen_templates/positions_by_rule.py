"""Positions by a rule for each modality: those of a whole span, of a grid, anew from a number."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from .cache import Cache
from .checks import check_modalities, check_tensor, refuse
from .constants import constant, on_device
from .embed import positions_in
from .latent_checks import grid_in
from .layout import Layout
from .patched import Patched
from .rows import document_starts
from .tokens import look_up, token_before


class PositionRule(NamedTuple):
    """How the tokens of a modality's spans are placed; a span is an unbroken run, in a document.

    A span begins at the next position, or at `start` if that is said. Its tokens are `consecutive`, all at the `same`
    position, or at their places in a `grid`, whose axes are the last ones; `centred`: so that its middle is that of as
    many consecutive tokens. Then it goes on `advance` further: as many as the span has `tokens`; as the grid is long
    along its longest side (`extent`), or the longest of its last two (`spatial`); or a number.

    With `delimiters` the tokens before and after a span, of modalities without a rule, are part of it. After a span of
    noised latents it goes on by `noised_advance`, if that is said.
    """

    kind: Literal["consecutive", "same", "grid", "centred"] = "consecutive"
    start: int | None = None
    advance: int | Literal["tokens", "extent", "spatial"] = "tokens"
    delimiters: bool = False
    noised_advance: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether tokens follow one another as if there were no spans."""
        return self == PositionRule()

    @property
    def takes_grid(self) -> bool:
        """Whether the size of a span's grid says where its tokens are."""
        return self.kind in ("grid", "centred")

    def after(self, grid: tuple[int, ...], tokens: int) -> int:
        """How much further it goes on after a span of so many tokens."""
        if isinstance(self.advance, int):
            return self.advance
        return tokens if self.advance == "tokens" else max(grid if self.advance == "extent" else grid[-2:])


class Spans(NamedTuple):
    """Of each token of a batch, [B, S], what span it is part of."""

    documents: Tensor | None  # bool: whether a document starts there; None: each row is one
    owner: Tensor  # int64: whose modality's rule places it; -1 at padding
    starts: Tensor  # bool: whether it is the first of its span
    ends: Tensor  # bool: whether it is the last
    first: Tensor  # int64: the column of its span's first token
    places: Tensor  # int64: which of its span's tokens it is


class Beside(NamedTuple):
    """The real token before each token of a batch, [B, S], or the one after it."""

    place: Tensor  # int64: its column, or any
    there: Tensor  # bool: whether there is one, of the same document

    @classmethod
    def of(cls, real: Tensor, place: Tensor, documents: Tensor | None) -> Beside:
        """Tokens of these columns, which are outside the row where there is none; `documents`: where these start."""
        last = real.shape[1] - 1
        inside = place.clamp(0, last)
        there = real & (place == inside)
        if documents is not None:
            document = documents.cumsum(1)
            there &= document.gather(1, inside) == document
        return cls(inside, there)

    def look_up(self, values: Tensor, missing: int) -> Tensor:
        """Of each token the value [B, S] of the one beside it."""
        return torch.where(self.there, values.gather(1, self.place), missing)


def find_spans(modality_ids: Tensor, document_ids: Tensor | None, rules: tuple[PositionRule, ...]) -> Spans:
    """The spans of modality ids int64 [B, S], in documents of ids int64 [B, S], or each row one."""
    real, column = modality_ids >= 0, torch.arange(modality_ids.shape[1], device=modality_ids.device)
    documents = None if document_ids is None else document_starts(modality_ids, document_ids)
    before = Beside.of(real, token_before(modality_ids), documents)
    after = Beside.of(real, modality_ids.shape[1] - 1 - token_before(modality_ids.flip(1)).flip(1), documents)
    left = before.look_up(modality_ids, -1)
    owner, starts = modality_ids, real & (left != modality_ids)
    if any(rule.delimiters for rule in rules):
        delimited = constant(tuple(rule.delimiters for rule in rules), modality_ids.device)
        plain = constant(tuple(rule.is_plain for rule in rules), modality_ids.device)
        right = after.look_up(modality_ids, -1)
        may_delimit = real & plain[modality_ids.clamp(min=0)]
        closes = may_delimit & (left >= 0) & delimited[left.clamp(min=0)]
        opens = may_delimit & ~closes & (right >= 0) & delimited[right.clamp(min=0)]
        owner = torch.where(opens, right, torch.where(closes, left, modality_ids))
        follows_opening = before.look_up(opens, False)
        starts = before.look_up(closes, False) | opens | (starts & ~closes & ~follows_opening)
    ends = real & after.look_up(starts, True)
    first = torch.where(starts, column, 0).cummax(1).values
    count = real.cumsum(1)
    return Spans(documents, owner, starts, ends, first, count - count.gather(1, first))


def place_tokens(
    modality_ids: Tensor,
    document_ids: Tensor | None,
    rules: tuple[PositionRule, ...],
    first_position: int,
    axes: int,
    grids: Mapping[int, Tensor],
    clean: Mapping[int, Tensor] | None = None,
) -> Tensor:
    """The positions int64 [B, S, axes], or [B, S] for one, by the rules of modalities; padding is at 0, uncounted.

    `clean` has by modality, bool [n], which of its spans are not noised, none of them where it has nothing; None: all.

    `grids`, by modality int64 [n, d] or [1, d] for all, are those of its spans in the order of the batch; d is at most
    `axes`.
    """
    spans, real = find_spans(modality_ids, document_ids, rules), modality_ids >= 0
    device = modality_ids.device
    numbers = constant(tuple(rule.advance if isinstance(rule.advance, int) else -1 for rule in rules), device)
    advance = look_up(numbers, spans.owner, 0)
    steps = torch.where(advance < 0, 1, torch.where(spans.ends, advance, 0)) * real
    offsets = modality_ids.new_zeros(*modality_ids.shape, axes)
    for modality, rule in enumerate(rules):
        if not rule.takes_grid or modality not in grids or not grids[modality].shape[0]:
            continue
        mine = spans.owner == modality
        ordinal = (spans.starts & mine).flatten().cumsum(0).view_as(mine) - 1
        table = grids[modality]
        sides = table[ordinal.clamp(0, table.shape[0] - 1)]  # [B, S, d]
        within = torch.cat((sides[..., 1:], torch.ones_like(sides[..., :1])), dim=-1).flip(-1).cumprod(-1).flip(-1)
        places = spans.places[..., None] // within % sides
        if rule.kind == "centred":
            places = places + (sides.prod(-1, keepdim=True) - sides) // 2
        last = axes - sides.shape[-1]
        offsets[..., last:] = torch.where(mine[..., None], places, offsets[..., last:])
        if rule.advance in ("extent", "spatial"):
            longest = (sides if rule.advance == "extent" else sides[..., -2:]).amax(-1)
            steps = torch.where(mine, torch.where(spans.ends, longest, 0), steps)
    for modality, rule in enumerate(rules):
        if rule.noised_advance is not None and clean is not None:
            mine = spans.owner == modality
            ordinal = (spans.starts & mine).flatten().cumsum(0).view_as(mine) - 1
            noised, of = mine, clean.get(modality)
            if of is not None and of.shape[0]:
                noised = mine & ~of[ordinal.clamp(0, of.shape[0] - 1)]
            steps = torch.where(noised, torch.where(spans.ends, rule.noised_advance, 0), steps)
    counter = steps.cumsum(1) - steps
    value: int | Tensor = first_position
    anew = spans.documents
    if any(rule.start is not None for rule in rules):
        said = constant(tuple(rule.start is not None for rule in rules), device)
        begins = constant(tuple(first_position if rule.start is None else rule.start for rule in rules), device)
        restarts = spans.starts & said[spans.owner.clamp(min=0)]
        value = torch.where(restarts, look_up(begins, spans.owner, 0), first_position)
        anew = restarts if anew is None else anew | restarts
    if anew is not None:  # counted from the last place where it was begun anew, and what was said there
        column = torch.arange(modality_ids.shape[1], device=device)
        reference = torch.where(anew, column, 0).cummax(1).values
        counter = counter - counter.gather(1, reference)
        value = value if isinstance(value, int) else value.gather(1, reference)
    counter = counter + value
    one_by_one = constant(tuple(rule.kind == "consecutive" for rule in rules), device)[spans.owner.clamp(min=0)]
    base = counter.gather(1, spans.first) + torch.where(one_by_one, spans.places, 0)
    positions = torch.where(real[..., None], base[..., None] + offsets, 0)
    return positions[..., 0] if axes == 1 else positions


class Placing:
    """Where the tokens of one row are placed, one after the other."""

    def __init__(self, rules: tuple[PositionRule, ...], position: int, axes: int) -> None:
        """`position`: the next one."""
        self.rules, self.counter, self.axes = rules, position, axes
        self.modality = -1  # of the span that has begun, if its modality has a rule
        self.base, self.index = 0, 0
        self.grid: tuple[int, ...] = ()
        self.may_open: int | None = None  # the position of the token before, if it may be the first of a span

    def next(self, modality: int, grid: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The position on each axis of one more token; `grid` is that of its span, if its rule takes one."""
        rule = self.rules[modality]
        if rule.is_plain:
            closes = self.modality >= 0 and self.rules[self.modality].delimiters
            position = self.base if closes else None
            self._close()
            if position is None:
                position = self.counter
                self.counter += 1
            self.may_open = None if closes else position
            return (position,) * self.axes
        if modality == self.modality:
            self.index += 1
        else:
            self._close()
            opened = self.may_open if rule.delimiters else None
            self.base = self.counter if opened is None else opened
            self.base = self.base if rule.start is None else rule.start
            self.modality, self.index, self.grid = modality, 0, grid
        self.may_open = None
        if rule.kind == "same":
            return (self.base,) * self.axes
        if rule.kind == "consecutive":
            return (self.base + self.index,) * self.axes
        if not self.grid:
            raise ValueError("where a token is in a grid follows from the grid's size, which is not known here")
        places, rest = [], self.index
        for side in reversed(self.grid):
            places.append(rest % side + ((prod(self.grid) - side) // 2 if rule.kind == "centred" else 0))
            rest //= side
        before = (self.base,) * (self.axes - len(self.grid))
        return (*before, *(self.base + place for place in reversed(places)))

    def _close(self) -> None:
        if self.modality >= 0:
            self.counter = self.base + self.rules[self.modality].after(self.grid, self.index + 1)
            self.modality = -1


class PlacedByRule:
    """A model whose tokens are placed by a rule for each modality, where positions are not given."""

    position_rules: ClassVar[tuple[PositionRule, ...]]
    first_position: ClassVar[int] = 0
    modalities: ClassVar[tuple[str, ...]]
    position_axes: ClassVar[int]

    def positions(
        self,
        modality_ids: Tensor,
        document_ids: Tensor | None = None,
        grids: Mapping[str, Tensor] | None = None,
        clean: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Positions int64 [B, S], or [B, S, axes], of ids int64 [B, S], by the rules of modalities.

        `grids` has for a modality whose rule takes one each span's, int64 [n, d], in the order of the batch: how many
        tokens it has along each of d axes. `clean`, bool [n], says which spans of latents are not noised, none unless
        given. Raises TypeError or ValueError for grids that do not fit the spans.
        """
        check_modalities(modality_ids, document_ids, len(self.modalities), reads=True)
        by_id = {self.modalities.index(name): grid for name, grid in (grids or {}).items()}
        if by_id:
            spans = find_spans(modality_ids, document_ids, self.position_rules)
            for modality, grid in by_id.items():
                self._check_grid(modality, grid, modality_ids == modality, spans)
        roles = {self.modalities.index(name): each for name, each in (clean or {}).items()}
        return self._place(modality_ids, document_ids, by_id, roles)

    def _check_grid(self, modality: int, grid: Tensor, mine: Tensor, spans: Spans) -> None:
        name = self.modalities[modality]
        if not self.position_rules[modality].takes_grid:
            raise ValueError(f"the positions of {name} follow from no grid")
        check_tensor(f"grids of {name}", grid)
        if not 1 <= grid.shape[1] <= self.position_axes:
            raise ValueError(f"grids of {name} are [n, {grid.shape[1]}], and there are {self.position_axes} axes")
        number = (spans.starts & mine).flatten().cumsum(0)[mine.flatten()]
        lengths = number.bincount()[1:].tolist()
        products = grid.prod(1).tolist()
        if lengths != products:
            raise ValueError(f"the spans of {name} have {lengths} tokens, and their grids {products}")

    def _place(
        self,
        modality_ids: Tensor,
        document_ids: Tensor | None,
        grids: Mapping[int, Tensor],
        clean: Mapping[int, Tensor] | None,
    ) -> Tensor:
        unknown = [m for m, rule in enumerate(self.position_rules) if rule.takes_grid and m not in grids]
        if unknown and not torch.compiler.is_compiling():

            def said(row: int, column: int) -> str:
                name = self.modalities[int(modality_ids[row, column])]
                return f"the positions of {name} follow from the grids of its spans: give position_ids, of positions()"

            anywhere = torch.stack([modality_ids == modality for modality in unknown]).any(0)
            refuse([(anywhere, said)], reads=False)
        rules, first = self.position_rules, self.first_position
        return place_tokens(modality_ids, document_ids, rules, first, self.position_axes, grids, clean)

    def placed(
        self,
        layout: Layout,
        position_ids: Tensor | None,
        cache: Cache | None,
        latents: Mapping[str, Any] | None = None,
        clean: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """The positions of attention's slots, int64 [R, L] or [R, L, axes]: those given, or by the rules."""
        if position_ids is None and (cache is None or cache.step is None):
            grids = {
                self.modalities.index(name): on_device(x.grids, layout.modality_ids.device).view(len(x.grids), -1)
                if isinstance(x, Patched)
                else constant((self.grid_of(name, x),), layout.modality_ids.device)
                for name, x in (latents or {}).items()
            }
            roles = None if clean is None else {self.modalities.index(name): each for name, each in clean.items()}
            position_ids = self._place(layout.modality_ids, layout.document_ids, grids, roles)
        return positions_in(layout, position_ids)

    def grid_of(self, name: str, latents: Tensor) -> tuple[int, ...]:
        """How many tokens latents [n, channels, ...] of a modality have along each axis."""
        ends: Any = self.latents[name]  # type: ignore[attr-defined]
        return grid_in(latents.shape[2:], ends.patch)

    def placing(self, position: int | None = None) -> Placing:
        """What places the tokens of a row that is generated, from its first, or from a position on."""
        begin = self.first_position if position is None else position
        return Placing(self.position_rules, begin, self.position_axes)
