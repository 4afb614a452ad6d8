"""The reference's small operations, each as its definition says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

Parameters = Mapping[str, Tensor]
Streams = dict[str, Tensor]
"""Modality to its tokens' vectors, [n_m, width_m]."""

NormKind = Literal["rms", "layer"]
GatedKind = Literal["swiglu", "geglu", "geglu_tanh", "quick_geglu", "clamped_geglu", "reglu", "reglu2"]
FfnKind = Literal[GatedKind, "silu", "gelu", "gelu_tanh", "quick_gelu", "relu", "relu2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceNorm:
    """What a norm computes; its weight and bias, where it has any, are looked up by name.

    Weights are added to `offset`. `over_heads`: statistics are over all heads of a token together.
    """

    kind: NormKind
    eps: float
    offset: int = 0
    over_heads: bool = False


def linear(parameters: Parameters, prefix: str, x: Tensor) -> Tensor:
    """A matrix product, with a bias where the parameters hold one."""
    y = x @ parameters[prefix + ".weight"].T
    return y + parameters[prefix + ".bias"] if prefix + ".bias" in parameters else y


def normalised(norm: ReferenceNorm, parameters: Parameters, prefix: str, x: Tensor) -> Tensor:
    """A norm over the last dimension, scaled by its weight, with a bias, where the parameters hold these.

    Statistics are in float32 or wider. With an offset, which is added to the weight, so is all that follows.
    """
    wide = at_least_float32(x)
    match norm.kind:
        case "rms":
            y = wide / (wide.square().mean(-1, keepdim=True) + norm.eps).sqrt()
        case "layer":
            centred = wide - wide.mean(-1, keepdim=True)
            y = centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
        case _:
            assert_never(norm.kind)
    weight = parameters.get(prefix + ".weight")
    bias = parameters.get(prefix + ".bias") if norm.kind == "layer" else None
    if not norm.offset:
        y = y.to(x.dtype)
    if weight is not None:
        y = y * (norm.offset + at_least_float32(weight)) if norm.offset else y * weight
    return (y if bias is None else y + bias).to(x.dtype)


def activated(kind: FfnKind, up: Tensor, gate: Callable[[], Tensor]) -> Tensor:
    """What a feed-forward makes of `up`, and of a gate where its kind has one."""
    match kind:
        case "swiglu":
            return F.silu(gate()) * up
        case "geglu":
            return F.gelu(gate()) * up
        case "geglu_tanh":
            return gelu_tanh(gate()) * up
        case "quick_geglu":
            return quick_gelu(gate()) * up
        case "clamped_geglu":  # as in gpt-oss
            return quick_gelu(gate().minimum(up.new_tensor(7.0))) * (up.clamp(-7.0, 7.0) + 1)
        case "reglu":
            return F.relu(gate()) * up
        case "reglu2":
            return F.relu(gate()) ** 2 * up
        case "silu":
            return F.silu(up)
        case "gelu":
            return F.gelu(up)
        case "gelu_tanh":
            return gelu_tanh(up)
        case "quick_gelu":
            return quick_gelu(up)
        case "relu":
            return F.relu(up)
        case "relu2":
            return F.relu(up) ** 2
        case _:
            assert_never(kind)


def gelu_tanh(x: Tensor) -> Tensor:
    """The first approximation of GELU (Hendrycks and Gimpel, arXiv 1606.08415)."""
    return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))


def quick_gelu(x: Tensor) -> Tensor:
    """Their second one, x · sigmoid(1.702 x), as in CLIP."""
    return x * torch.sigmoid(1.702 * x)


def to_sequence(x: Streams, tokens: dict[str, Tensor]) -> Tensor:
    """The modalities' vectors [n_m, ...] back at their places in [B, S, ...]; zeros at padding."""
    first = next(iter(x))
    sequence = x[first].new_zeros(*tokens[first].shape, *x[first].shape[1:])
    for modality, vectors in x.items():
        sequence[tokens[modality]] = vectors
    return sequence


def default_positions(modality_ids: Tensor, document_ids: Tensor | None) -> Tensor:
    """0, 1, 2 ... along each row, padding counted, and again at the first real token of each further document."""
    rows, length = modality_ids.shape
    positions = [[0] * length for _ in range(rows)]
    documents = [[0] * length] * rows if document_ids is None else document_ids.tolist()
    for row, modalities in enumerate(modality_ids.tolist()):
        start, document = 0, None
        for column in range(length):
            if modalities[column] >= 0:
                if document is not None and documents[row][column] != document:
                    start = column
                document = documents[row][column]
            positions[row][column] = column - start
    return torch.tensor(positions, dtype=torch.int64, device=modality_ids.device).reshape(rows, length)


def at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
