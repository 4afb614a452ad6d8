"""A cache of keys and values that another library keeps, as transformers does, for a model that goes on by it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .cache import Cache, KeyValues, NewTokens
from .generate import layout_of_step
from .masks import Mask, visibility


class KeptKeyValues(KeyValues):
    """A layer's keys and values [B, kv_heads, T, head_dim] in the other library's cache."""

    cache: KeptCache

    def extended(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        number, self.cache.number = self.cache.number, self.cache.number + 1
        if self.cache.step is not None:
            return self.cache.updated(k, v, number)
        self.cache.updated(self.cache.in_batch(k), self.cache.in_batch(v), number)
        return k, v


class KeptCache(Cache):
    """What goes with one call: `kept` is the other library's, whose `update` takes keys, values and a layer's number.

    Tokens stand in it as in the batch, those of padding too, so that it can be cut, reordered and repeated by rows.
    """

    layers: list[KeptKeyValues]  # type: ignore[assignment]

    def __init__(self, kept: Any, model: Any) -> None:
        super().__init__(0, 0)
        self.kept, self.number = kept, 0  # of the next layer that has keys
        self.wanted = tuple(model.vocabularies)
        self.layers = [KeptKeyValues(self) for _ in model.layers]
        self.slots = torch.empty(0)
        self.shape = (0, 0)

    def updated(self, k: Tensor, v: Tensor, number: int) -> tuple[Tensor, Tensor]:
        keys, values = self.kept.update(k, v, number)
        return keys, values

    def in_batch(self, x: Tensor) -> Tensor:
        """Keys or values of a prompt's slots [R, kv_heads, L, head_dim] at the batch's places, zeros at padding."""
        by_slot = x.transpose(1, 2)
        has_token = self.slots >= 0
        places = by_slot.new_zeros(self.shape[0] * self.shape[1], *by_slot.shape[2:])
        places[self.slots[has_token]] = by_slot[has_token]
        return torch.unflatten(places, 0, self.shape).transpose(1, 2)

    def prompt(self, model: Any, modality_ids: Tensor) -> Any:
        """The layout of the first tokens, int64 [B, S], -1 at padding."""
        layout = model.layout(modality_ids)
        self.slots, self.shape = layout.rows.slots, (modality_ids.shape[0], modality_ids.shape[1])
        return layout

    def next(self, model: Any, known: Tensor, positions: Tensor) -> Any:
        """The layout of the last tokens, of as many as there are positions int64 [B, S] or [B, S, axes].

        `known` int64 [B, T] are the modalities of all tokens so far, -1 at padding. Raises ValueError where what comes
        would have been seen by tokens before it.
        """
        count = positions.shape[1]
        new = known[:, -count:]
        present: list[int] = torch.unique(new).tolist()
        check_decodable(model, present, known, count)
        real = known >= 0
        masks = [seen_by_last(mask, known, count, real, padded=not bool(real.all())) for mask in model.masks]
        rows = torch.arange(known.shape[0], device=known.device)[:, None]
        places = torch.arange(known.shape[1] - count, known.shape[1], device=known.device)
        self.step = NewTokens(rows, places.expand_as(new), known.shape[1])
        standing = new.clamp(min=0)  # of padding, which no token sees: some modality's
        modalities = {max(each, 0) for each in present}
        each = zip(model.masks, masks, strict=True)
        found = [mask.found_by_next(standing, known, seen) for mask, seen in each]
        return layout_of_step(model, model.layout(standing), modalities, standing, positions, masks, found)


def seen_by_last(mask: Mask, known: Tensor, count: int, real: Tensor, padded: bool) -> Tensor | None:
    """Which tokens the last ones of each row see, bool [B, 1, count, T]; None: all."""
    if count == 1:
        seen = mask.seen_by_next(known[:, -1:], known)
        if padded:
            itself = torch.arange(known.shape[1], device=known.device) == known.shape[1] - 1
            seen = (real if seen is None else seen & real) | (itself & ~real)  # padding sees itself
        return None if seen is None else seen[:, None, None]
    return visibility(mask, known, None)[:, None, -count:]


def check_decodable(model: Any, present: list[int], known: Tensor, count: int) -> None:
    """Raise ValueError where a row's last `count` tokens, of these modalities, would be seen by earlier ones."""
    for mask in model.masks:
        for each in set(mask.bidirectional).intersection(present):
            name = model.modalities[each]
            raise ValueError(f"tokens of {name} see later ones of their run: only a prompt can have them")
        if mask.delimited:
            before = known[:, :-count]
            number = (before >= 0).cumsum(dim=1)
            last = before[(before >= 0) & (number == number[:, -1:])]  # of each row that has a token
            if bool(torch.isin(last, last.new_tensor(mask.bidirectional)).any()):
                raise ValueError("what comes after a run is seen by it: only a prompt can have that")
        if mask.prefix:
            inside = torch.isin(known, known.new_tensor([-1, *mask.prefix]))
            if bool(inside.all(dim=1).any()):
                names = ", ".join(model.modalities[each] for each in mask.prefix)
                raise ValueError(f"what comes belongs to the prefix ({names}), which sees all of itself")
