"""Attention in a few calls that need no matrix of who sees whom: one for each set of tokens that is seen."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .attention import attend, weighed
from .cache import KeyValues
from .chosen import Chosen
from .constants import constant
from .masks import Mask, Matrix
from .permute import permute
from .row_ranks import attend_over_heads, row_ranks
from .sizes import mark_sizes, not_empty

KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""All but cuDNN's, before which torch asks whether there is but one key: a graph for all sizes has no answer."""


class View(NamedTuple):
    """Tokens of each row that see the same: all tokens `seen` or, if `causal`, those of them that are not later."""

    tokens: Tensor  # bool [R, L]
    seen: Tensor | None  # bool [R, L]; None: all of the row
    causal: bool


class Call(NamedTuple):
    """A view as a call of attention: the slots it takes queries and keys from, and where its results go."""

    keys: Chosen | None  # None: all of the row
    queries: Chosen | None  # None: the keys
    answers: Tensor  # int64 [R, n]: the slot that each query's result is for, -1 where it is for none
    causal: bool


class Views(NamedTuple):
    """Calls of attention that give each slot's token, in one of them, what its mask lets it see."""

    calls: tuple[Call, ...]
    places: Tensor  # int64 [R, L]: where each slot's result stands among those of all calls, -1 where it has none
    gaps: tuple[bool, bool] = (True, True)  # whether `places`, and whether `answers`, may hold -1

    def mark_sizes(self) -> None:
        """Tell the compiler which sizes vary."""
        mark_sizes(self.places, "rows", "length")
        for number, call in enumerate(self.calls):
            last = "length"
            for kind, chosen in (("keys", call.keys), ("queries", call.queries)):
                if chosen is not None:
                    last = f"{kind}{number}"
                    mark_sizes(chosen.order, "rows", last)
                    mark_sizes(chosen.inverse, "rows", "length")
            mark_sizes(call.answers, "rows", last)


class InViews(Mask):
    """A mask whose tokens see few different sets, so that attention needs no matrix for it."""

    @abstractmethod
    def list_views(self, modality_ids: Tensor) -> list[View]:
        """The views of rows of one document each; every token is in one. int64 [R, L], -1 where there is no token."""

    def views(self, modality_ids: Tensor) -> Views | None:
        return make_views(modality_ids, self.list_views(modality_ids))


def views_by_sight(modality_ids: Tensor, sees: tuple[tuple[bool, ...], ...], causal: bool) -> list[View]:
    """A view for each set of modalities that is seen.

    modality_ids int64 [R, L], one document a row, -1 where there is no token. sees[i][j]: whether tokens of modality i
    see those of j.
    """
    views = []
    for seen in dict.fromkeys(sees):
        tokens = constant((*(mine == seen for mine in sees), False), modality_ids.device)[modality_ids]
        visible = None if all(seen) else constant((*seen, False), modality_ids.device)[modality_ids]
        views.append(View(tokens, visible, causal))
    return views


def chosen(wanted: Tensor) -> Chosen:
    """The slots that are wanted, bool [R, L]; one empty place if there are none. Reads sizes back from the device."""
    rows, length = wanted.shape
    counts = wanted.sum(1).tolist()
    width = max(*counts, 1)
    column = torch.argsort((~wanted).to(torch.uint8), dim=1, stable=True)[:, :width]
    first = torch.arange(rows, device=wanted.device)[:, None]
    order = torch.where(wanted.gather(1, column), column + first * length, -1)
    inverse = torch.where(wanted, wanted.cumsum(1) - 1 + first * width, -1)
    return Chosen(order, inverse, full=min(counts) == width)


def make_views(modality_ids: Tensor, views: list[View]) -> Views | None:
    """A call for each view; None where a matrix is needed after all.

    That is so where rows have different numbers of tokens to see in a call that is not causal: the shorter ones end in
    empty places, which only a matrix keeps from being seen.
    `modality_ids` int64 [R, L], one document a row, its tokens first. Reads sizes back from the device.
    """
    calls, start, places = [], 0, torch.full_like(modality_ids, -1)
    for tokens, seen, causal in views:
        numbers = (modality_ids >= 0 if seen is None else seen).sum(1)
        if not causal and bool((tokens.any(1) & (numbers != numbers.max())).any()):
            return None
        keys = None if seen is None else chosen(seen)
        queries = None if causal or tokens is seen else chosen(tokens)
        asked = queries or keys
        slots = torch.arange(tokens.numel(), device=tokens.device).view_as(tokens)
        order, inverse = (slots, slots) if asked is None else asked[:2]
        answers = torch.where((order >= 0) & tokens.flatten()[order], order, -1)
        calls.append(Call(keys, queries, answers, causal))
        places = torch.where(tokens, inverse + start, places)
        start += order.numel()
    answered = int((places >= 0).sum())
    return Views(tuple(calls), places, gaps=(places.numel() > answered, start > answered))


def attend_by_views(
    q: Tensor,
    read: Sequence[tuple[Tensor, Tensor]],
    views: Views,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Attention of q [R, L, heads, head_dim] to the keys [R, L, kv_heads, head_dim] and values [R, L, kv_heads,
    value_dim] that each call reads: [R, L, heads, value_dim]; with sinks [R, L, heads].
    """
    ranks = row_ranks()
    if ranks is not None:

        def in_rows(q: Tensor, read: Sequence[tuple[Tensor, Tensor]], sinks: Tensor | None) -> Tensor:
            return attend_by_views(q, read, views, scale, softcap, sinks)

        mixed = attend_over_heads(in_rows, ranks, q, read, sinks)
        return torch.unflatten(mixed, 2, (q.shape[2], -1))
    results = []
    for call, pair in zip(views.calls, read, strict=True):
        keys, values = (x if call.keys is None else call.keys.take(x) for x in pair)
        asked = call.queries or call.keys
        queries = q if asked is None else asked.take(q)
        theirs = sinks if sinks is None or asked is None else asked.take(sinks)
        results.append(_attention(queries, keys, values, call.causal, scale, softcap, theirs).flatten(0, 1))
    answers = torch.cat([call.answers.flatten() for call in views.calls])
    gaps = (True, True) if torch.compiler.is_compiling() else views.gaps
    found = permute(torch.cat(results), views.places.flatten(), answers, gaps)
    return found.view(*q.shape[:3], found.shape[2])


def _attention(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float | None, softcap: float | None, sinks: Tensor | None
) -> Tensor:
    """What a call's queries [R, n, heads, head_dim] find, likewise; keys and values [R, m, kv_heads, head_dim]."""
    queries, keys = (not_empty(x, any_length=True).transpose(1, 2) for x in (q, k))
    given = (None, causal, scale, softcap, None if sinks is None else sinks.transpose(1, 2))
    if not (q.is_cuda and torch.compiler.is_compiling()):
        return weighed(queries, keys, v.transpose(1, 2), *given).transpose(1, 2)
    with sdpa_kernel(KERNELS):
        return weighed(queries, keys, v.transpose(1, 2), *given).transpose(1, 2)


def attend_in_views(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Matrix | None,
    views: Views | None,
    cache: KeyValues | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """As `attend`, in a call for each view where there are any, else with a mask."""
    if views is None:
        return attend(q, k, v, mask, cache, False, scale, softcap, sinks)
    if cache is not None:
        cache.extended(k.transpose(1, 2), v.transpose(1, 2))
    return attend_by_views(not_empty(q), [(k, v)] * len(views.calls), views, scale, softcap, sinks).flatten(2)
