"""Where tokens stand when their positions are not given: token by token, by the rule of each modality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from math import prod
from types import MappingProxyType
from typing import Literal, assert_never

import torch
from torch import Tensor

Grid = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRule:
    """A modality's rule; the fields are those of the language."""

    kind: Literal["consecutive", "same", "grid", "centred"] = "consecutive"
    start: int | None = None
    advance: int | Literal["tokens", "extent", "spatial"] = "tokens"
    delimiters: bool = False
    noised_advance: int | None = None


PLAIN = ReferenceRule()


def positions_by_rule(
    modality_ids: Tensor,
    document_ids: Tensor | None,
    rules: Sequence[ReferenceRule],
    first: int,
    axes: int,
    grids: Mapping[int, Sequence[Grid]],
    noised: Mapping[int, Sequence[bool]] = MappingProxyType({}),
) -> Tensor:
    """Positions int64 [B, S, axes], 0 at padding. `grids` has by modality those of its spans, rows first.

    So has `noised` which of them are noised, none where it has nothing.
    """
    positions = torch.zeros(*modality_ids.shape, axes, dtype=torch.int64)
    waiting = {modality: iter(sizes) for modality, sizes in grids.items()}
    roles = {modality: iter(each) for modality, each in noised.items()}
    for row, modalities in enumerate(modality_ids.tolist()):
        documents = [0] * len(modalities) if document_ids is None else document_ids[row].tolist()
        real = [column for column, modality in enumerate(modalities) if modality >= 0]
        for _, group in groupby(real, key=lambda column: documents[column]):
            columns = list(group)
            placed = of_document([modalities[column] for column in columns], rules, first, axes, waiting, roles)
            for column, place in zip(columns, placed, strict=True):
                positions[row, column] = torch.tensor(place)
    return positions


def of_document(
    modalities: list[int],
    rules: Sequence[ReferenceRule],
    first: int,
    axes: int,
    grids: Mapping[int, Iterator[Grid]],
    roles: Mapping[int, Iterator[bool]],
) -> list[tuple[int, ...]]:
    """The position of each token of a document, on each axis."""
    runs = [list(group) for _, group in groupby(range(len(modalities)), key=lambda place: modalities[place])]
    shared: dict[int, int] = {}  # a delimiter, and the first token of the run that it belongs to
    for run in runs:
        if rules[modalities[run[0]]].delimiters:
            for place in (run[0] - 1, run[-1] + 1):
                if 0 <= place < len(modalities) and rules[modalities[place]] == PLAIN:
                    shared.setdefault(place, run[0])
    positions: list[tuple[int, ...]] = []
    following = first
    for run in runs:
        rule = rules[modalities[run[0]]]
        if rule == PLAIN:
            for place in run:
                if place in shared and shared[place] < place:  # it closes a span
                    positions.append(positions[shared[place]])
                else:
                    positions.append((following,) * axes)
                    following += 1
            continue
        base = following if rule.start is None else rule.start
        if shared.get(run[0] - 1) == run[0]:
            base = positions[run[0] - 1][0]
        grid = next(grids[modalities[run[0]]]) if rule.kind in ("grid", "centred") else ()
        positions += [tuple(base + offset for offset in place) for place in offsets(rule, len(run), grid, axes)]
        is_noised = next(roles.get(modalities[run[0]], iter(())), False)
        match rule.noised_advance if is_noised and rule.noised_advance is not None else rule.advance:
            case "tokens":
                following = base + len(run)
            case "extent":
                following = base + max(grid)
            case "spatial":
                following = base + max(grid[-2:])
            case number:
                following = base + number
    return positions


def offsets(rule: ReferenceRule, tokens: int, grid: Grid, axes: int) -> list[tuple[int, ...]]:
    """How far each token of a span is from where the span begins."""
    match rule.kind:
        case "same":
            return [(0,) * axes] * tokens
        case "consecutive":
            return [(index,) * axes for index in range(tokens)]
        case "grid" | "centred":
            assert prod(grid) == tokens, f"a grid {grid} has not {tokens} places"
            shifts = [(tokens - side) // 2 if rule.kind == "centred" else 0 for side in grid]
            places = product(*(range(side) for side in grid))
            ahead = (0,) * (axes - len(grid))
            return [(*ahead, *(at + shift for at, shift in zip(place, shifts, strict=True))) for place in places]
        case _:
            assert_never(rule.kind)
