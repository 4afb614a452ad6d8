"""More tokens of each row through a model that keeps the keys and values of earlier ones."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from .constants import constant, on_device


class KeyValues(NamedTuple):
    """A layer's keys and values [B, kv_heads, T, head_dim]; the token at position p of a row stands at p."""

    keys: Tensor
    values: Tensor

    def fill(self, keys: Tensor, values: Tensor) -> None:
        """Keep the prompt's, [B, L, kv_heads, head_dim]; what stands at padding is not seen until overwritten."""
        self.keys[:, :, : keys.shape[1]] = keys.transpose(1, 2)
        self.values[:, :, : values.shape[1]] = values.transpose(1, 2)


class Step(NamedTuple):
    """A step of decoding: S more tokens of each row, of one modality in each.

    Rows are sorted by tower, and where one tower has all of them in the batch's order.
    """

    members: list[tuple[str, dict[str, list[int]]]]  # towers that have rows; of each modality, which of them
    sizes: list[int]  # how many rows each of these towers has
    rows: Tensor  # int64 [B]: the rows, sorted
    inverse: Tensor  # int64 [B]: where each row is sorted to
    positions: Tensor  # int64 [B, S]: the positions of the sorted rows' tokens
    angles: list[tuple[Tensor, ...]]  # for each tower cosine and sine [n, S, 1, head_dim / 2], if there is any rotation
    mask: Tensor | None  # bool [B, 1, S, length]: what each row's tokens see; None: all
    length: int

    def to_rows(self, pieces: list[Tensor]) -> Tensor:
        """What the towers' rows have, in the order of the batch."""
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)[self.inverse]

    def to_towers(self, x: Tensor) -> list[Tensor]:
        """What the batch's rows have, tower by tower."""
        return [x] if len(self.sizes) == 1 else list(torch.split(x[self.rows], self.sizes))


def attend(projected: list[tuple[Tensor, Tensor, Tensor]], step: Step, cache: KeyValues) -> list[Tensor]:
    """Queries, keys and values [n, S, heads, head_dim] of each tower's tokens to what they attend to, [n, S, ...]."""
    queries, keys, values = (list(parts) for parts in zip(*projected, strict=True))
    for kept, new in zip(cache, (keys, values), strict=True):
        kept[step.rows[:, None], :, step.positions] = (new[0] if len(new) == 1 else torch.cat(new)).to(kept.dtype)
    q = step.to_rows(queries).transpose(1, 2)
    k, v = cache.keys[:, :, : step.length], cache.values[:, :, : step.length]
    gqa = q.shape[1] != k.shape[1]
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=step.mask, enable_gqa=gqa)
    return step.to_towers(mixed.transpose(1, 2).flatten(2))


def by_modality(function: Any, x: Tensor, each: dict[str, list[int]]) -> Tensor:
    """function(tokens, modality) for the tokens of each modality in x [n, ...], in x's order."""
    if len(each) == 1:
        return cast(Tensor, function(x, next(iter(each))))
    made = torch.cat([function(x[places], modality) for modality, places in each.items()])
    order = [place for places in each.values() for place in places]
    return made[sorted(range(len(order)), key=lambda index: order[index])]


def decode_step(model: Any, ids: Tensor, step: Step, caches: list[KeyValues], wanted: set[str]) -> Any:
    """The logits [B, V] after one more token int64 [B] of each row; with own vocabularies, of the `wanted` ones."""
    of = [each for _, each in step.members]
    pieces = [by_modality(model.embed_token, x, each) for x, each in zip(step.to_towers(ids[:, None]), of, strict=True)]
    for layer, cache in zip(model.layers, caches, strict=True):
        pieces = layer.decode(pieces, step, cache)
    states = [model.norm_token(x, tower)[:, 0] for x, (tower, _) in zip(pieces, step.members, strict=True)]
    if model.own_vocabularies:
        x = step.to_rows(states)
        return {modality: model.read_token(x, modality) for modality in sorted(wanted)}
    return step.to_rows([by_modality(model.read_token, x, each) for x, each in zip(states, of, strict=True)])


def plan_step(model: Any, modalities: list[str], positions: list[int], known: Tensor, rotate: Any) -> Step:
    """The step of tokens of these modalities at these positions; `known` int64 [B, T] are the modalities so far."""
    towers = list(dict.fromkeys(model.towers.values()))
    order = sorted(range(len(modalities)), key=lambda row: towers.index(model.towers[modalities[row]]))
    members: dict[str, dict[str, list[int]]] = {}
    sizes: list[int] = []
    for row in order:
        tower = model.towers[modalities[row]]
        if tower not in members:
            members[tower] = {}
            sizes.append(0)
        members[tower].setdefault(modalities[row], []).append(sizes[-1])
        sizes[-1] += 1
    rows = on_device(order, known.device)
    inverse = on_device(sorted(range(len(order)), key=lambda token: order[token]), known.device)
    at = on_device([[positions[row]] for row in order], known.device)
    length = max(positions) + 1
    mask = None
    sees = model.mask.sees
    if sees or len(set(positions)) > 1:
        mask = known[:, :length] >= 0
        if sees:
            allowed = constant(sees, known.device)
            seeing = on_device([model.modalities.index(name) for name in modalities], known.device)
            mask = mask & allowed[seeing[:, None], known[:, :length]]
        mask = mask[:, None, None]
    angles = list(zip(*(torch.split(x, sizes) for x in rotate(at)), strict=True)) or [()] * len(sizes)
    return Step(list(members.items()), sizes, rows, inverse, at, angles, mask, length)
