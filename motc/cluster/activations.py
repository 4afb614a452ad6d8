"""Bytes that a forward keeps for the backward.

A norm keeps what it is given, in float32, and what that is normed; a linear map what it is given, once for all maps of
it; attention its rotated queries and keys, its values and its output; a feed-forward what its gate and up make, the
activation and the product. A head keeps its logits' log-softmax, in float32.
"""

from __future__ import annotations

from collections.abc import Mapping

from motc.cost.bytes import DTYPE_BYTES, dtype_bytes
from motc.ir.attention import Attention
from motc.ir.feed_forward import Mixture
from motc.ir.layer import Layer, Sublayer
from motc.ir.leaf import Leaf
from motc.ir.model import Model
from motc.ir.operators import Embedding, Linear

SINGLE = DTYPE_BYTES["float32"]


def activation_bytes(
    model: Model, shares: Mapping[str, float], *, dtype: str = "bfloat16", ranks: int = 1, checkpoint: bool = False
) -> float:
    """Bytes of one token of such a mix of modalities, on each of so many tensor-parallel ranks.

    With `checkpoint` each layer keeps what it is given alone, and the largest layer is run again.
    Raises ValueError for models whose activations are not known, and for an unknown dtype.
    """
    require_known(model)
    size = dtype_bytes(dtype)
    total = 0.0
    for name, share in shares.items():
        width = model.modality(name).width
        layers = [(_layer(layer, name, width, size, ranks), count) for layer, count in model.kinds]
        if checkpoint:
            kept = width * size * model.layers + max(of_layer for of_layer, _ in layers)
        else:
            kept = sum(of_layer * count for of_layer, count in layers)
        total += share * (kept + _ends(model, name, width, size, ranks))
    return total


def require_known(model: Model) -> None:
    """Raise ValueError, naming it, where a model has what this file has no rule for."""
    if names := [modality.name for modality in model.continuous_modalities()]:
        raise ValueError(f"activations of continuous modalities ({', '.join(names)}) are not predicted")
    for layer, _ in model.kinds:
        if layer.mixtures:
            raise ValueError("activations of mixtures of experts are not predicted")
        if any(sublayer.modulation or sublayer.out_gate for sublayer in layer.sublayers):
            raise ValueError("activations of adaptive norms and of gates of sublayers are not predicted")
        for body in layer.attentions:
            if body.low_rank or body.gate or body.sinks or body.softcap or body.clip or body.readers:
                raise ValueError(
                    "activations of attention of low rank, with gates, sinks, a softcap, a clip or readers "
                    "are not predicted"
                )


def _ends(model: Model, name: str, width: int, size: int, ranks: int) -> float:
    """The final norm, what the head is given, and the log-softmax of its logits, which ranks join."""
    block = model.read_leaf.block_of(name) if model.speaks else None
    if block is None:
        return 0
    operator = block.operator
    assert isinstance(operator, Embedding | Linear)
    vocab = operator.vocab if isinstance(operator, Embedding) else operator.out_features
    return _norm(width, size) + width * size + SINGLE * vocab


def _layer(layer: Layer, name: str, width: int, size: int, ranks: int) -> float:
    return sum(_sublayer(sublayer, name, width, size, ranks) for sublayer in layer.sublayers)


def _sublayer(sublayer: Sublayer, name: str, width: int, size: int, ranks: int) -> float:
    norms = sum(_norm(width, size) for leaf in sublayer.norms.values() if leaf.block_of(name))
    body = sublayer.body
    if isinstance(body, Attention):
        heads, kv_heads = body.heads / ranks, body.kv_heads / min(ranks, body.kv_heads)
        queries, keys = heads * body.head_dim, kv_heads * body.head_dim
        normed = _norm(queries, size) * _has(body.q_norm, name) + _norm(keys, size) * _has(body.k_norm, name)
        numbers = width + queries + keys + (kv_heads + heads) * body.value_size
        return norms + normed + size * numbers + SINGLE * heads  # the last: each head's log-sum-exp
    assert not isinstance(body, Mixture)
    up = body.up.block_of(name)
    if up is None:
        return norms
    assert isinstance(up.operator, Linear)
    hidden = up.operator.out_features / ranks
    return norms + size * (width + hidden * (4 if _has(body.gate, name) else 2))


def _norm(numbers: float, size: int) -> float:
    return numbers * (SINGLE + size)


def _has(leaf: Leaf | None, name: str) -> bool:
    return leaf is not None and leaf.block_of(name) is not None
