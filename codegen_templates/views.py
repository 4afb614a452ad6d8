"""Attention in parts that need no mask, where each token sees one of a few sets of tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .constants import constant
from .permute import permute
from .sizes import mark_sizes, not_empty


class Chosen(NamedTuple):
    """Some slots of each row, in their order; -1 stands for none."""

    order: Tensor  # int64 [R, n]: the slots, numbered through all rows
    inverse: Tensor  # int64 [R, L]: the place in `order` of each slot

    def take(self, x: Tensor) -> Tensor:
        """What stands in these slots, [R, n, ...], of x [R, L, ...]."""
        taken = permute(x.flatten(0, 1), self.order.flatten(), self.inverse.flatten())
        return taken.view(*self.order.shape, *x.shape[2:])


class View(NamedTuple):
    """One call of attention: its keys, all of them seen or, if `causal`, those not after the query."""

    keys: Chosen | None  # None: all of the row
    queries: Chosen | None  # None: the keys
    answers: Tensor  # int64 [R, n]: the slot that is to have what this query finds, -1 for none
    causal: bool


class Views(NamedTuple):
    """Calls of attention that together say what a mask says."""

    each: tuple[View, ...]
    places: Tensor  # int64 [R, L]: where each slot's answer stands among those of all views

    def mark_sizes(self) -> None:
        """Tell the compiler which sizes vary."""
        mark_sizes(self.places, "rows", "length")
        for number, view in enumerate(self.each):
            last = "length"
            for kind, chosen in (("keys", view.keys), ("queries", view.queries)):
                if chosen is not None:
                    last = f"{kind}{number}"
                    mark_sizes(chosen.order, "rows", last)
                    mark_sizes(chosen.inverse, "rows", "length")
            mark_sizes(view.answers, "rows", last)


class Part(NamedTuple):
    """Tokens that all see the same: `tokens` and what is `seen` are bool [R, L]; None where that is all of the row."""

    tokens: Tensor
    seen: Tensor | None
    causal: bool


def parts_by_sight(modality_ids: Tensor, sees: tuple[tuple[bool, ...], ...], causal: bool) -> list[Part]:
    """A part for each set of modalities that is seen: all tokens of it or, if `causal`, those that came before.

    modality_ids int64 [R, L], one document a row, -1 where there is no token. sees[i][j]: whether tokens of modality i
    see those of j.
    """
    parts = []
    for seen in dict.fromkeys(sees):
        tokens = constant((*(mine == seen for mine in sees), False), modality_ids.device)[modality_ids]
        visible = None if all(seen) else constant((*seen, False), modality_ids.device)[modality_ids]
        parts.append(Part(tokens, visible, causal))
    return parts


def chosen(wanted: Tensor) -> Chosen:
    """The slots that are wanted, bool [R, L]; one empty place if there are none. Reads sizes back from the device."""
    rows, length = wanted.shape
    width = max(int(wanted.sum(1).max()), 1)
    column = torch.argsort((~wanted).to(torch.uint8), dim=1, stable=True)[:, :width]
    first = torch.arange(rows, device=wanted.device)[:, None]
    order = torch.where(wanted.gather(1, column), column + first * length, -1)
    inverse = torch.where(wanted, wanted.cumsum(1) - 1 + first * width, -1)
    return Chosen(order, inverse)


def make_views(modality_ids: Tensor, parts: list[Part]) -> Views | None:
    """A view for each part; None if one has keys in unequal numbers, which only a mask can leave out.

    `modality_ids` int64 [R, L], one document a row, its tokens first. Reads sizes back from the device.
    """
    each, start, places = [], 0, torch.full_like(modality_ids, -1)
    for tokens, seen, causal in parts:
        numbers = (modality_ids >= 0 if seen is None else seen).sum(1)
        if not causal and bool((tokens.any(1) & (numbers != numbers.max())).any()):
            return None
        keys = None if seen is None else chosen(seen)
        queries = None if causal or tokens is seen else chosen(tokens)
        asked = queries or keys
        slots = torch.arange(tokens.numel(), device=tokens.device).view_as(tokens)
        order, inverse = (slots, slots) if asked is None else asked
        answers = torch.where((order >= 0) & tokens.flatten()[order], order, -1)
        each.append(View(keys, queries, answers, causal))
        places = torch.where(tokens, inverse + start, places)
        start += order.numel()
    return Views(tuple(each), places)


def attend_by_views(q: Tensor, k: Tensor, v: Tensor, views: Views) -> Tensor:
    """Attention of q [R, L, heads, head_dim] to k and v [R, L, kv_heads, head_dim], as [R, heads, L, head_dim]."""
    attended = []
    for view in views.each:
        keys, values = (x if view.keys is None else view.keys.take(x) for x in (k, v))
        asked = view.queries or view.keys
        queries = q if asked is None else asked.take(q)
        mixed = F.scaled_dot_product_attention(
            not_empty(queries).transpose(1, 2),
            not_empty(keys).transpose(1, 2),
            values.transpose(1, 2),
            is_causal=view.causal,
            enable_gqa=q.shape[2] != k.shape[2],
        )
        attended.append(mixed.transpose(1, 2).flatten(0, 1))
    answers = torch.cat([view.answers.flatten() for view in views.each])
    return permute(torch.cat(attended), views.places.flatten(), answers).view_as(q).transpose(1, 2)
