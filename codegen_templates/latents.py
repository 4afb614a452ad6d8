"""Continuous modalities: the patches of latents in the stream, and predictions from their states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .autocast import product_dtype
from .latent_checks import check_latents, check_patched, check_spans, named
from .patched import AnyLatents, Patched, named_latents
from .permute import permute
from .sizes import exporting
from .tokens import invert, look_up


class DenoisingOutput(NamedTuple):
    """`logits` [B, S, V], or a dict modality -> [B, S, V_m] with own vocabularies; zeros at padding and at latents.

    `predictions` holds for each continuous modality a tensor of its latents' shape.
    """

    logits: Tensor | dict[str, Tensor]
    predictions: dict[str, Tensor]


class Patches(NamedTuple):
    """One modality's patches in a batch, in the order of their tokens, rows first."""

    vectors: Tensor  # [P + 1, w]: the last is a stand-in, so that no tensor is empty
    kept: list[Any]  # what the ends keep for the way back
    order: Tensor  # int64, one for each place of the stream: which patch stands there; -1: none
    inverse: Tensor  # int64 [P + 1]: the place of each patch, -1 for the stand-in
    added: Mapping[int, Tensor] = MappingProxyType({})  # [P + 1, w], by the layer after which they are added


def without(modality_ids: Tensor, continuous: tuple[int, ...]) -> Tensor:
    """The modality ids of tokens with an id, -1 at latents as at padding."""
    for modality in continuous:
        modality_ids = torch.where(modality_ids == modality, -1, modality_ids)
    return modality_ids


def make_patches(
    ends: nn.ModuleDict,
    objectives: Mapping[str, Any],
    modalities: tuple[str, ...],
    layout: Any,
    latents: Mapping[str, AnyLatents] | None,
    timesteps: Mapping[str, Tensor] | None,
) -> dict[str, Patches]:
    """Noised latents [n, channels, ...] and timesteps [n] of each modality, or their patches, as those of the stream.

    Raises TypeError or ValueError where they do not fit one another or the spans in `modality_ids`. Reads back from the
    device. Of a step of generating, all of one modality, there are patches of the latents that are given.
    """
    latents, timesteps = named_latents("latents", latents, ends), named("timesteps", timesteps, ends)
    patches = {}
    is_step = isinstance(layout.places, int)
    for name, module in ends.items():
        end: Any = module
        like: Tensor = next(end.parameters())
        x, t = latents.get(name), timesteps.get(name)
        if x is None and is_step:
            continue
        if x is None:
            x = torch.zeros(0, end.channels, *end.patch, dtype=like.dtype, device=like.device)
            t = torch.zeros(0, dtype=torch.int64, device=like.device)
        rank = rank_of(layout.modality_ids, modalities.index(name))
        if isinstance(x, Patched):
            check_patched(name, x, t, objectives[name], layout, modalities.index(name))
            vectors, kept = end.tokens_of_patches(x._replace(patches=x.patches.to(like.dtype)), t)
            patches[name] = patches_of(vectors, kept, rank, layout)
            continue
        if not torch.compiler.is_compiling() and not is_step:
            check_latents(name, x, t, end)
            check_spans(name, x, t, end, objectives[name], layout, modalities.index(name))
        if t is not None and exporting():  # there may be none, of which torch asks: one more is no token's
            x, t = torch.cat([x, x.new_zeros(1, *x.shape[1:])]), torch.cat([t, t.new_zeros(1)])
        vectors, kept = end.tokens(x.to(like.dtype), t)
        patches[name] = patches_of(vectors, kept, rank, layout)
    return patches


def patches_of(vectors: Tensor, kept: list[Any], rank: Tensor, layout: Any) -> Patches:
    """Vectors [P, w] at their places in the stream; `rank` int64 [B * S] says which of them each token is, -1 none."""
    is_step = isinstance(layout.places, int)
    order = rank.view_as(layout.modality_ids) if is_step else look_up(rank, layout.tokens, -1)
    vectors = with_stand_in(vectors)
    return Patches(vectors, kept, order, invert(order.flatten(), vectors.shape[0]))


def with_stand_in(vectors: Tensor) -> Tensor:
    """Vectors [P, w] and one that stands for none, zeros, behind them."""
    return nn.functional.pad(vectors, (0, 0, 0, 1))


def beside(values: Tensor, x: Tensor) -> Tensor:
    """Numbers [n], one for each of latents x [n, ...], with as many axes as these."""
    return values.view(-1, *(1 for _ in x.shape[1:]))


def rank_of(modality_ids: Tensor, modality: int) -> Tensor:
    """Which of a modality's tokens in the batch each token is, counted from 0, int64 [B * S]; -1 where it is none."""
    mine = modality_ids.flatten() == modality
    return torch.where(mine, mine.cumsum(0) - 1, -1)


def place_patches(x: Tensor, patches: Mapping[str, Patches]) -> Tensor:
    """The stream [N, w] (or [R, L, w]), the vectors of each modality's patches at their places."""
    for each in patches.values():
        placed = permute(each.vectors, each.order.flatten(), each.inverse).view_as(x)
        x = torch.where(each.order[..., None] >= 0, placed.to(x.dtype), x)
    return x


def patch_piece(x: Tensor, patches: Patches) -> Tensor:
    """A piece of the stream that is patches, zeros where none stands, in the dtype of x."""
    if not exporting() and patches.order.numel() == 0:  # an order of nothing has no inverse
        return patches.vectors[:0].to(x.dtype)
    placed = permute(patches.vectors, patches.order.flatten(), patches.inverse)
    return placed.view(*patches.order.shape, placed.shape[-1]).to(x.dtype)


def in_piece(patches: Patches, order: Tensor) -> Patches:
    """The patches with their places in a piece of the stream, which has this part of their order."""
    return patches._replace(order=order, inverse=invert(order.flatten(), patches.inverse.numel()))


def patch_states(x: Tensor, patches: Patches) -> Tensor:
    """The states [P, w] of the patches, from those of the stream."""
    rows = x.flatten(0, patches.order.ndim - 1)
    if exporting():  # how many there are is not known, and none cannot be looked up in
        rows = with_stand_in(rows)
    elif rows.shape[0] == 0:
        return rows
    return permute(rows, patches.inverse, patches.order.flatten())[:-1]


def in_pieces(
    patches: Mapping[str, Patches], places: Mapping[str, int], layout: Any, cut: Callable[[Tensor], list[Tensor]] | None
) -> Iterator[tuple[str, int, Patches]]:
    """Of modalities that have patches, whose pieces of the stream stand at `places`: each with its place, and its
    patches as that piece has them.

    `cut` makes pieces of an order; None where each piece has all tokens. A step of one modality is one piece.
    """
    is_step = isinstance(layout.places, int)
    for name, place in places.items():
        if name in patches:
            mine, at = patches[name], 0 if is_step else place
            yield name, at, mine if is_step or cut is None else in_piece(mine, cut(mine.order)[at])


def place_in_pieces(
    x: list[Tensor],
    patches: Mapping[str, Patches],
    places: Mapping[str, int],
    layout: Any,
    cut: Callable[[Tensor], list[Tensor]] | None = None,
) -> list[Tensor]:
    """The pieces of the stream, those of modalities at `places` being their patches; `cut` as above."""
    x = [*x]
    for _, at, mine in in_pieces(patches, places, layout, cut):
        x[at] = patch_piece(x[at], mine)
    return x


def states_in_pieces(
    x: list[Tensor],
    patches: Mapping[str, Patches],
    places: Mapping[str, int],
    layout: Any,
    cut: Callable[[Tensor], list[Tensor]] | None = None,
) -> dict[str, Tensor]:
    """The states [P, w] of the patches of modalities at `places`; `cut` as above."""
    return {name: patch_states(x[at], mine) for name, at, mine in in_pieces(patches, places, layout, cut)}


def blank(ids: Tensor, width: int, like: Tensor) -> Tensor:
    """A stream of zeros [*ids.shape, width], where patches will stand, as `like` them."""
    return torch.zeros(*ids.shape, width, dtype=like.dtype, device=like.device)


def absent(x: Tensor, size: int) -> Tensor:
    """Zeros [..., size] where states x [..., w] make no logits."""
    return x.new_zeros(*x.shape[:-1], size, dtype=product_dtype(x))
