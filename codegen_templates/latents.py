"""Continuous modalities: the patches of latents in the stream, and predictions from their states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from codegen_templates.permute import permute
from codegen_templates.rows import compact_rows, invert, look_up


class ModelOutput(NamedTuple):
    """`logits` [B, S, V], or a dict modality -> [B, S, V_m] with own vocabularies; zeros at padding and at latents.

    `predictions` holds for each continuous modality a tensor of its latents' shape.
    """

    logits: Tensor | dict[str, Tensor]
    predictions: dict[str, Tensor]


class Patches(NamedTuple):
    """One modality's patches in a batch, in the order of their tokens, rows first."""

    vectors: Tensor  # [P + 1, w]: the last is a stand-in, so that no tensor is empty
    kept: list[Tensor]  # what the ends keep for the way back
    order: Tensor  # int64, one for each place of the stream: which patch stands there; -1: none
    inverse: Tensor  # int64 [P + 1]: the place of each patch, -1 for the stand-in


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
    latents: Mapping[str, Tensor] | None,
    timesteps: Mapping[str, Tensor] | None,
) -> dict[str, Patches]:
    """Noised latents [n, channels, height, width] and timesteps [n] of each modality, as patches of the stream.

    Raises ValueError where they do not fit one another or the spans in `modality_ids`. Reads back from the device.
    """
    latents, timesteps = latents or {}, timesteps or {}
    for name in (*latents, *timesteps):
        if name not in ends:
            raise ValueError(f"{name!r} is no continuous modality of this model: {', '.join(ends)}")
    found = {}
    for name, module in ends.items():
        end: Any = module
        like: Tensor = next(end.parameters())
        x, t = latents.get(name), timesteps.get(name)
        if x is None:
            x = like.new_zeros(0, end.channels, end.patch, end.patch)
            t = torch.zeros(0, dtype=torch.int64, device=like.device)
        rank = rank_of(layout.modality_ids, modalities.index(name))
        if not torch.compiler.is_compiling():
            check_latents(name, x, t, end, objectives[name])
            check_spans(name, x, t, end, objectives[name], layout, modalities.index(name))
        vectors, kept = end.tokens(x.to(like.dtype), t)
        order = look_up(rank, layout.tokens, -1)
        vectors = nn.functional.pad(vectors, (0, 0, 0, 1))
        found[name] = Patches(vectors, kept, order, invert(order.flatten(), vectors.shape[0]))
    return found


def rank_of(modality_ids: Tensor, modality: int) -> Tensor:
    """Which of a modality's tokens each token of the flattened batch is, int64 [B * S]; -1: none of them."""
    mine = modality_ids.flatten() == modality
    return torch.where(mine, mine.cumsum(0) - 1, -1)


def check_latents(name: str, latents: Tensor, timesteps: Tensor | None, ends: Any, objective: Any) -> None:
    """Raise ValueError for latents or timesteps of another shape or kind than a modality's ends take."""
    if latents.ndim != 4 or latents.shape[1] != ends.channels:
        raise ValueError(f"latents of {name} must be [spans, {ends.channels}, height, width], not {[*latents.shape]}")
    if latents.shape[2] % ends.patch or latents.shape[3] % ends.patch:
        raise ValueError(f"latents of {name} are {latents.shape[2]} x {latents.shape[3]}: no multiple of {ends.patch}")
    if not latents.is_floating_point():
        raise ValueError(f"latents of {name} must be floating-point numbers, not {latents.dtype}")
    if timesteps is None:
        raise ValueError(f"latents of {name} need timesteps: timesteps={{{name!r}: [{latents.shape[0]}]}}")
    if timesteps.shape != latents.shape[:1]:
        raise ValueError(f"timesteps of {name} must be [{latents.shape[0]}], one a span, not {[*timesteps.shape]}")
    if objective.whole and timesteps.is_floating_point():
        raise ValueError(f"timesteps of {name} must be whole numbers, not {timesteps.dtype}")


def check_spans(
    name: str, latents: Tensor, timesteps: Tensor | None, ends: Any, objective: Any, layout: Any, modality: int
) -> None:
    """Raise ValueError unless each span of a modality has one latent, whose patches are its tokens.

    A span is a longest run of its tokens in one document; padding does not break it. Latents must be finite.
    """
    assert timesteps is not None
    length = latents.shape[2] // ends.patch * (latents.shape[3] // ends.patch)
    slots = compact_rows(layout.modality_ids)
    mine = look_up(layout.modality_ids.flatten(), slots, -1) == modality
    goes_on = mine[:, 1:] & mine[:, :-1]
    if layout.document_ids is not None:
        documents = look_up(layout.document_ids.flatten(), slots, -1)
        goes_on = goes_on & (documents[:, 1:] == documents[:, :-1])
    starts = mine.clone()
    starts[:, 1:] &= ~goes_on
    first = (mine.flatten().cumsum(0) - 1)[starts.flatten()]  # which of the modality's tokens begins each span
    numbers = torch.stack(
        [
            mine.sum(),
            starts.sum(),
            (first != torch.arange(first.numel(), device=first.device) * length).sum(),
            (~latents.isfinite()).sum().to(first.device),
            ((timesteps < 0) | (timesteps > objective.last)).sum().to(first.device),
        ]
    )
    tokens, spans, uneven, broken, outside = numbers.tolist()
    if spans != latents.shape[0]:
        raise ValueError(f"modality_ids have {spans} spans of {name}, and there are latents for {latents.shape[0]}")
    if uneven or tokens != spans * length:
        size = f"{latents.shape[2]} x {latents.shape[3]}"
        raise ValueError(f"a span of {name} has another number of tokens than the {length} patches of {size} latents")
    if broken:
        raise ValueError(f"{broken} of the numbers in the latents of {name} are infinite or NaN")
    if outside:
        raise ValueError(f"timesteps of {name} must be 0..{objective.last}; {outside} are not")


def place_patches(x: Tensor, patches: Patches) -> Tensor:
    """The stream [N, w] (or [R, L, w]), the patches' vectors at their places."""
    placed = permute(patches.vectors, patches.order.flatten(), patches.inverse).view_as(x)
    return torch.where(patches.order[..., None] >= 0, placed.to(x.dtype), x)


def patch_piece(x: Tensor, patches: Patches) -> Tensor:
    """A piece of the stream that is patches throughout, in the dtype of x."""
    if patches.order.numel() == 0:  # an order of nothing has no inverse
        return patches.vectors[:0].to(x.dtype)
    placed = permute(patches.vectors, patches.order.flatten(), patches.inverse)
    return placed.view(*patches.order.shape, placed.shape[-1]).to(x.dtype)


def in_piece(patches: Patches, order: Tensor) -> Patches:
    """The patches with their places in a piece of the stream, which has this part of their order."""
    return patches._replace(order=order, inverse=invert(order.flatten(), patches.inverse.numel()))


def patch_states(x: Tensor, patches: Patches) -> Tensor:
    """The states [P, w] of the patches, from those of the stream."""
    rows = x.flatten(0, patches.order.ndim - 1)
    if rows.shape[0] == 0:
        return rows
    return permute(rows, patches.inverse, patches.order.flatten())[:-1]


def absent(x: Tensor, size: int) -> Tensor:
    """Zeros [..., size] where states x [..., w] make no logits."""
    return x.new_zeros(*x.shape[:-1], size)
