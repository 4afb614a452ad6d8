"""Rotary positions (RoFormer): which pairs of a head turn by which angles. Frequencies and angles are float32."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, assert_never

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceScaling:
    """How frequencies are scaled; what a kind does not have is left as it is here."""

    kind: Literal["linear", "dynamic", "llama3", "yarn"]
    factor: float
    original_length: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0
    truncate: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRope:
    """The first `size` components of a head rotate, all if it is None; theta^(-2i/size) is the frequency of pair i.

    With `sections`, which has a number of pairs for each axis, each pair turns by the position on one of the axes, and
    `arrangement` says by which. `own`: every axis's pairs are numbered from 0, and have its theta if it has one.
    `thetas` are those of modalities that have their own.
    """

    theta: float | tuple[float, ...]
    pairing: Literal["half", "interleaved"] = "half"
    size: int | None = None
    scaling: ReferenceScaling | None = None
    sections: tuple[int, ...] | None = None
    arrangement: Literal["split", "interleaved", "spatial_first", "own"] = "split"
    thetas: Mapping[str, float] = field(default_factory=dict)


class Positions(NamedTuple):
    """Of each token: where it stands, int64 [B, S, axes] or [B, S], and how far its document reaches, int64 [B, S].

    `documents` int64 [B, S]: which of its row's it is in.
    """

    ids: Tensor
    lengths: Tensor
    documents: Tensor

    def counted_anew(self, anew: Tensor) -> Positions:
        """Those of some tokens, bool [B, S], less the smallest among them in their document, on each axis."""
        ids = self.ids.clone()
        for row, documents in enumerate(self.documents):
            for document in documents.unique():
                mine = anew[row] & (documents == document)
                if mine.any():
                    ids[row, mine] -= ids[row, mine].min(dim=0).values
        return self._replace(ids=ids)


def document_lengths(position_ids: Tensor, modality_ids: Tensor, document_ids: Tensor | None) -> Tensor:
    """One more than the largest position of each real token's document, int64 [B, S]; 1 at padding."""
    if position_ids.ndim == 3:
        position_ids = position_ids.max(-1).values
    lengths = torch.ones_like(position_ids)
    for row, modalities in enumerate(modality_ids.tolist()):
        documents = [0] * len(modalities) if document_ids is None else document_ids[row].tolist()
        real = [column for column, modality in enumerate(modalities) if modality >= 0]
        for document in {documents[column] for column in real}:
            mine = [column for column in real if documents[column] == document]
            lengths[row, mine] = position_ids[row, mine].max() + 1
    return lengths


def rotate_each(x: Tensor, positions: Positions, rope: ReferenceRope, tokens: Mapping[str, Tensor]) -> Tensor:
    """x [B, S, heads, head_dim], rotated; the tokens of each modality, bool [B, S], by its own theta."""
    turned = rotate(x, positions, rope)
    for modality, theta in rope.thetas.items():
        if modality in tokens:
            mine = tokens[modality][:, :, None, None]
            turned = torch.where(mine, rotate(x, positions, replace(rope, theta=theta)), turned)
    return turned


def rotate(x: Tensor, positions: Positions, rope: ReferenceRope) -> Tensor:
    """x [B, S, heads, head_dim] with its first components rotated, the others as they are."""
    size = x.shape[-1] if rope.size is None else rope.size
    turning, still = x[..., :size], x[..., size:]
    turned_by = positions.ids[:, :, None]
    if positions.ids.ndim == 3:
        turned_by = positions.ids[:, :, axis_of_pairs(rope, size)]
    angles = turned_by.float() * frequencies(rope, size, positions.lengths)
    factor = 1.0 if rope.scaling is None else rope.scaling.attention_factor
    cos, sin = ((wave * factor).to(x.dtype)[:, :, None] for wave in (angles.cos(), angles.sin()))
    match rope.pairing:
        case "half":
            a, b = turning[..., : size // 2], turning[..., size // 2 :]
            turned = torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
        case "interleaved":
            a, b = turning[..., 0::2], turning[..., 1::2]
            turned = torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)
        case _:
            assert_never(rope.pairing)
    return torch.cat((turned, still), dim=-1)


def axis_of_pairs(rope: ReferenceRope, size: int) -> list[int]:
    """By the position on which axis each pair turns."""
    sections = (size // 2,) if rope.sections is None else rope.sections
    match rope.arrangement:
        case "split" | "own":
            return [axis for axis, pairs in enumerate(sections) for _ in range(pairs)]
        case "interleaved":  # pair 1, 1 + n, 1 + 2n ... are the second axis's, and so on
            owners = [0] * (size // 2)
            for axis, pairs in enumerate(sections[1:], 1):
                for turn in range(pairs):
                    owners[axis + turn * len(sections)] = axis
            return owners
        case "spatial_first":
            spatial = [axis for _ in range(sections[1]) for axis in range(1, len(sections))]
            return spatial + [0] * sections[0]
        case _:
            assert_never(rope.arrangement)


def frequencies(rope: ReferenceRope, size: int, lengths: Tensor) -> Tensor:
    """The frequency of each pair, [size / 2], or of each token's, [B, S, size / 2]."""
    if rope.arrangement == "own" and rope.sections is not None:
        thetas = rope.theta if isinstance(rope.theta, tuple) else (rope.theta,) * len(rope.sections)
        axes = zip(rope.sections, thetas, strict=True)
        each = (ReferenceRope(theta=theta, size=2 * pairs) for pairs, theta in axes)
        return torch.cat([frequencies(axis, axis.size or 0, lengths) for axis in each])
    assert not isinstance(rope.theta, tuple), "a theta for each axis goes with pairs of its own"
    exponents = torch.arange(0, size, 2, device=lengths.device).float() / size
    plain = 1.0 / rope.theta**exponents
    scaling = rope.scaling
    if scaling is None:
        return plain
    match scaling.kind:
        case "linear":
            return plain / scaling.factor
        case "dynamic":
            return dynamic(rope.theta, exponents, scaling, size, lengths)
        case "llama3":
            return llama3(plain, scaling)
        case "yarn":
            return yarn(rope.theta, exponents, scaling, size)
        case _:
            assert_never(scaling.kind)


def dynamic(theta: float, exponents: Tensor, scaling: ReferenceScaling, size: int, lengths: Tensor) -> Tensor:
    """theta grows with the length of a document that is longer than the original one (NTK scaling)."""
    further = scaling.factor * lengths.float() / scaling.original_length - (scaling.factor - 1)
    grown = torch.where(lengths > scaling.original_length, theta * further ** (size / (size - 2)), theta)
    return 1.0 / grown[:, :, None] ** exponents


def llama3(plain: Tensor, scaling: ReferenceScaling) -> Tensor:
    """Llama 3.1: by how often a wave fits into the original length, it is left, slowed, or something between."""
    slowed = []
    for frequency in plain:
        wave = 2 * math.pi / frequency
        if wave < scaling.original_length / scaling.high_freq_factor:
            slowed.append(frequency)
        elif wave > scaling.original_length / scaling.low_freq_factor:
            slowed.append(frequency / scaling.factor)
        else:
            band = scaling.high_freq_factor - scaling.low_freq_factor
            share = (scaling.original_length / wave - scaling.low_freq_factor) / band
            slowed.append((1 - share) * frequency / scaling.factor + share * frequency)
    return torch.stack(slowed)


def yarn(theta: float, exponents: Tensor, scaling: ReferenceScaling, size: int) -> Tensor:
    """YaRN (arXiv 2309.00071): pairs that turn often in the original length are left, others slowed, by a ramp."""

    def pair_that_turns(times: float) -> float:
        return size * math.log(scaling.original_length / (times * 2 * math.pi)) / (2 * math.log(theta))

    start, end = pair_that_turns(scaling.beta_fast), pair_that_turns(scaling.beta_slow)
    if scaling.truncate:
        start, end = math.floor(start), math.ceil(end)
    start, end = max(start, 0), min(end, size - 1)
    if start == end:
        end += 0.001
    raised = theta**exponents
    slow = ((torch.arange(size // 2, device=raised.device).float() - start) / (end - start)).clamp(0, 1)
    left = 1 - slow
    return 1.0 / (scaling.factor * raised) * (1 - left) + 1.0 / raised * left
