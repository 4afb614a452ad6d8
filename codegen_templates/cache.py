"""Keys and values of the tokens that a model has seen, for those that come after them."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence, Sized
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .autocast import product_dtype
from .last_tokens import LastTokens


class NewTokens(NamedTuple):
    """Where the next S tokens of each row stand: at `positions` int64 [B, S] of `rows` int64 [B, 1].

    `length` is how many places have a token then, in the row that has most.
    """

    rows: Tensor
    positions: Tensor
    length: int


def held(lengths: Tensor, room: int) -> Tensor:
    """The position of the token that stands in each of so many places, int64 [B, room]; negative where there is none.

    Rows have `lengths` int64 [B] tokens, of which the last are kept: that at position p stands at p modulo the room.
    """
    last = lengths[:, None] - 1
    return last - (last - torch.arange(room, device=lengths.device)) % room


class KeyValues:
    """A layer's keys and values [B, kv_heads, T, head_dim]; the token at position p of a row stands at p.

    Of a layer whose tokens see no more than the last `window` of them, no more are kept: it stands at p modulo that.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, cache: Cache, window: int | None = None) -> None:
        self.cache, self.window = cache, window

    @property
    def room(self) -> int:
        """How many tokens of each row are kept."""
        return self.cache.room if self.window is None else min(self.window, self.cache.room)

    @property
    def takes_prompt(self) -> bool:
        """Whether the next tokens are the first."""
        return self.cache.step is None

    def extended(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values that new tokens see, [B, kv_heads, n, head_dim], after those of the new ones are kept.

        A prompt sees itself. What is kept of its padding is not seen, and overwritten by the tokens that come there.
        """
        step = self.cache.step
        if step is None:
            # Zeros: what is not seen counts 0 times, and must be a number.
            self.keys, self.values = (
                x.new_zeros((*x.shape[:2], self.room, x.shape[3]), dtype=product_dtype(x)) for x in (k, v)
            )
            if k.shape[2] <= self.room:
                self.keys[:, :, : k.shape[2]] = k
                self.values[:, :, : v.shape[2]] = v
            else:
                index = held(self.cache.lengths, self.room).clamp(min=0)[:, None, :, None]
                self.keys.copy_(k.gather(2, index.expand(self.keys.shape)))
                self.values.copy_(v.gather(2, index.expand(self.values.shape)))
            return k, v
        places = step.positions if self.window is None else step.positions % self.room
        for kept, new in ((self.keys, k), (self.values, v)):
            kept[step.rows, :, places] = new.transpose(1, 2).to(kept.dtype)
        length = min(step.length, self.room)
        return self.keys[:, :, :length], self.values[:, :, :length]


class Cache:
    """What a model keeps of the tokens it has seen, layer by layer.

    The first tokens it takes are prompts, in rows of slots without padding between; later ones stand where `step` says.
    Of prompts, which have `lengths` int64 [B], logits are made after their `last` tokens alone. With vocabularies of
    their own, they are made for the modalities in `wanted` alone; beside latents none where it is empty.
    """

    lengths: Tensor

    def __init__(self, layers: int, room: int, windows: Sequence[int | None] = ()) -> None:
        """`room`: how many tokens of each row there may be; `windows`: of how many each layer sees the last alone.

        None: of all; without `windows` all layers see all.
        """
        self.room = room
        self.last: LastTokens | None = None
        self.step: NewTokens | None = None
        self.wanted: tuple[str, ...] = ()
        self.layers = [KeyValues(self, window) for window in windows or [None] * layers]

    def of_rows(self, rows: list[int], length: int) -> Cache:
        """A copy of some rows, up to a length."""
        copy = Cache(len(self.layers), length)
        for own, kept in zip(copy.layers, self.layers, strict=True):
            own.keys, own.values = kept.keys[rows, :, :length], kept.values[rows, :, :length]
        return copy

    def put_rows(self, rows: list[int], copy: Cache) -> None:
        """Take over what was kept in such a copy."""
        for own, kept in zip(copy.layers, self.layers, strict=True):
            kept.keys[rows, :, : copy.room] = own.keys
            kept.values[rows, :, : copy.room] = own.values


def layers_of(cache: Cache | None, layers: Sized) -> list[KeyValues | None]:
    """The keys and values of each layer; None for each where nothing is kept."""
    return [None] * len(layers) if cache is None else [*cache.layers]


def check_cache(cache: Any, layout: Any) -> None:
    """Raise TypeError or ValueError unless this is a cache, with the layout of a step: only `generate` makes these."""
    if not isinstance(cache, Cache):
        raise TypeError(f"cache must be a Cache, not {reprlib.repr(cache)}")
    if layout is None:
        raise ValueError("with a cache goes the layout of the step, which generate makes: call generate")
