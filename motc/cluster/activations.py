"""Bytes that a forward keeps for the backward.

A norm keeps what it is given, in float32, and what that is normed; a linear map what it is given, once for all maps of
it; attention its rotated queries and keys, its values and its output; a feed-forward what its gate and up make, the
activation and the product. A head keeps its logits' log-softmax, in float32. A mixture does so of each pair of a token
and an expert, and keeps what goes to experts, what they give, and the router's probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from motc.cost.bytes import DTYPE_BYTES, dtype_bytes
from motc.ir.attention import Attention
from motc.ir.feed_forward import FeedForward, Mixture, Moe
from motc.ir.latent import LatentEnds
from motc.ir.layer import Layer, Sublayer
from motc.ir.leaf import Leaf
from motc.ir.model import Model
from motc.ir.operators import Embedding, Experts, Linear

SINGLE = DTYPE_BYTES["float32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Who shares a batch: so many ranks of `tp`, and of `cp`; and whether pairs of experts are `exchanged`."""

    tp: int
    cut: int
    exchanged: bool


def activation_bytes(
    model: Model,
    shares: Mapping[str, float],
    *,
    dtype: str = "bfloat16",
    ranks: int = 1,
    cut: int = 1,
    exchanged: bool = False,
    checkpoint: bool = False,
) -> float:
    """Bytes of one of its own tokens, of such a mix of modalities, on each of so many tensor-parallel ranks.

    Rows are `cut` over so many; with `exchanged` experts get others' tokens. With `checkpoint` each layer keeps what it
    is given alone, and the largest layer is run again.
    Raises ValueError for models whose activations are not known, and for an unknown dtype.
    """
    require_known(model)
    size, of = dtype_bytes(dtype), Ranks(tp=ranks, cut=cut, exchanged=exchanged)
    total = 0.0
    for name, share in shares.items():
        width = model.modality(name).width
        layers = [(_layer(layer, model, name, size, of), count) for layer, count in model.kinds]
        if checkpoint:
            kept = width * size * model.layers + max(of_layer for of_layer, _ in layers)
        else:
            kept = sum(of_layer * count for of_layer, count in layers)
        total += share * (kept + _ends(model, name, width, size))
    return total


def loss_bytes(model: Model, shares: Mapping[str, float]) -> float:
    """Bytes of a token that the backward of a loss needs beside what is kept: its logits' gradient, and in bfloat16."""
    return sum(share * _logits(model, name) * (SINGLE + dtype_bytes("bfloat16")) for name, share in shares.items())


def exchanged_numbers(model: Model, shares: Mapping[str, float], *, ranks: int, cut: int) -> tuple[float, float]:
    """Numbers of a token that pass through all layers' exchanges: of slots for heads, and of pairs for experts."""
    rows = pairs = 0.0
    for layer, count in model.kinds:
        for body in layer.attentions:
            kv_heads = max(body.kv_heads / min(ranks, body.kv_heads), cut)
            rows += count * (body.heads / ranks + kv_heads) * (body.head_dim + body.value_size)
        for mixture in layer.mixtures:
            for name, moe in mixture.by_modality(model.names).items():
                times = 3 if _has(mixture.gate, name) else 2
                pairs += count * shares[name] * float(moe.per_token) * model.modality(name).width * times
    return rows, pairs


def require_known(model: Model) -> None:
    """Raise ValueError, naming it, where a model has what this file has no rule for."""
    if names := [modality.name for modality in model.feature_modalities()]:
        raise ValueError(f"activations of features ({', '.join(names)}) are not predicted")
    latents = model.latents()
    for block in latents.blocks if latents is not None else ():
        assert isinstance(block.operator, LatentEnds)
        if block.operator.unet is not None:
            raise ValueError(f"activations of the U-Net of {block.name} are not predicted")
    for layer, _ in model.kinds:
        if any(sublayer.modulation or sublayer.out_gate for sublayer in layer.sublayers):
            raise ValueError("activations of adaptive norms and of gates of sublayers are not predicted")
        for body in layer.attentions:
            if body.low_rank or body.gate or body.sinks or body.softcap or body.clip or body.readers:
                raise ValueError(
                    "activations of attention of low rank, with gates, sinks, a softcap, a clip or readers "
                    "are not predicted"
                )


def _ends(model: Model, name: str, width: int, size: int) -> float:
    """The final norm, what the head is given, and the log-softmax of its logits; of latents patches and predictions."""
    latents = model.latents()
    ends = None if latents is None else latents.block_of(name)
    if ends is not None:
        assert isinstance(ends.operator, LatentEnds)
        numbers = (ends.operator.channels + ends.operator.predicted) * prod(ends.operator.patch_shape)
        return _norm(width, size) + 2 * width * size + SINGLE * numbers
    vocab = _logits(model, name)
    return _norm(width, size) + width * size + SINGLE * vocab if vocab else 0


def _logits(model: Model, name: str) -> int:
    """How many a token of a modality has, which ranks join."""
    block = model.read_leaf.block_of(name) if model.speaks else None
    if block is None:
        return 0
    operator = block.operator
    assert isinstance(operator, Embedding | Linear)
    return operator.vocab if isinstance(operator, Embedding) else operator.out_features


def _layer(layer: Layer, model: Model, name: str, size: int, of: Ranks) -> float:
    return sum(_sublayer(sublayer, model, name, size, of) for sublayer in layer.sublayers)


def _sublayer(sublayer: Sublayer, model: Model, name: str, size: int, of: Ranks) -> float:
    width = model.modality(name).width
    norms = sum(_norm(width, size) for leaf in sublayer.norms.values() if leaf.block_of(name))
    body = sublayer.body
    if isinstance(body, Attention):
        heads, kv_heads = body.heads / of.tp, max(body.kv_heads / min(of.tp, body.kv_heads), of.cut)
        queries, keys = heads * body.head_dim, kv_heads * body.head_dim
        normed = _norm(queries, size) * _has(body.q_norm, name) + _norm(keys, size) * _has(body.k_norm, name)
        numbers = width + queries + keys + (kv_heads + heads) * body.value_size
        return norms + normed + size * numbers + SINGLE * heads  # the last: each head's log-sum-exp
    mixture = body.by_modality(model.names).get(name) if isinstance(body, Mixture) else None
    if mixture is not None:
        assert isinstance(body, Mixture)
        return norms + _experts(body, mixture, name, width, size, of)
    return norms + _hidden(body, name, size, of.tp) + size * width


def _hidden(body: FeedForward | Mixture, name: str, size: int, ranks: int) -> float:
    """What gate and up make, the activation and the product: of one expert, or of all that take a token."""
    up = body.up.block_of(name)
    if up is None:
        return 0
    assert isinstance(up.operator, Linear | Experts)
    return size * up.operator.out_features / ranks * (4 if _has(body.gate, name) else 2)


def _experts(body: Mixture, moe: Moe, name: str, width: int, size: int, of: Ranks) -> float:
    pairs, numbers = float(moe.per_token), 2 * SINGLE  # bytes of an int64
    given = 2 if of.exchanged and _has(body.gate, name) else 1  # gate and up each have what came for them
    routed = width * size + SINGLE * moe.experts + numbers * (2 * pairs + moe.experts)
    each = (given + 1) * width * size + _hidden(body, name, size, of.tp)
    shared = 0.0
    if body.shared_up is not None and (up := body.shared_up.block_of(name)) is not None:
        assert isinstance(up.operator, Linear)
        shared = size * up.operator.out_features / of.tp * (4 if _has(body.shared_gate, name) else 2)
    return routed + pairs * each + shared


def _norm(numbers: float, size: int) -> float:
    return numbers * (SINGLE + size)


def _has(leaf: Leaf | None, name: str) -> bool:
    return leaf is not None and leaf.block_of(name) is not None
