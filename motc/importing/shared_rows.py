"""Rows that several classes share, and what is always so of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from motc.importing.architecture import (
    ACTIVATIONS,
    GEMMA_ACTIVATIONS,
    PLAIN_ACTIVATIONS,
    bias,
    head_dim,
    number,
    rms_eps,
    sizes,
    tied,
    word,
)
from motc.importing.by_layer import WindowByLayer
from motc.importing.rotary import Rope, RopeByLayerType
from motc.importing.rows import InverseRoot, Key, Noted, Only, Row

SILU = word("hidden_act", "ffn.kind", "silu", ACTIVATIONS)
EXPERTS = word("hidden_act", "ffn.expert", "silu", ACTIVATIONS)
DROPOUT = Noted(name="attention_dropout")
ATTENTION_BIAS = bias("attention_bias", "attention.bias")
MLP_BIAS = bias("mlp_bias", "ffn.bias")
BIASES = (ATTENTION_BIAS, MLP_BIAS)
ROPE = Rope()
TEXT: Mapping[str, Any] = {"modalities.text": {}}
GEMMA = {"norm.offset": 1, "embedding.scale": "sqrt_width"}
BOTH_NORMS = {"norm.placement": "both"}

MISTRAL = (*sizes(32000, 4096, 14336, 32, 32, 8), head_dim(), rms_eps(1e-6), SILU)
PHI_DROPOUTS = (Noted(name="resid_pdrop"), Noted(name="embd_pdrop"))

QWEN2 = (rms_eps(1e-6), SILU, DROPOUT, Rope())
QWEN_BIASES = {"attention.bias": True, "attention.out_bias": False}
QWEN_WINDOWS = WindowByLayer(default=4096, switch="use_sliding_window", first=("max_window_layers", 28))

GEMMA_2 = (
    head_dim(256),
    rms_eps(1e-6),
    word("hidden_activation", "ffn.kind", "gelu_pytorch_tanh", ACTIVATIONS),
    Only(name="hidden_act", value="gelu_pytorch_tanh"),  # which the class does not look at
    InverseRoot(name="query_pre_attn_scalar", default=256, ours="attention.scale", kind=float),
    Only(name="use_bidirectional_attention", value=False),
    ATTENTION_BIAS,
    DROPOUT,
)
GEMMA_3 = (
    *GEMMA_2,
    Only(name="attn_logit_softcapping", value=None),  # which the class does not look at
    number("final_logit_softcapping", "head.softcap"),
    WindowByLayer(default=4096, every=("sliding_window_pattern", 6)),
    RopeByLayerType(theta=1000000.0, local_theta=10000.0, scalings=("default", "linear")),
)
GEMMA_1 = (
    head_dim(256),
    rms_eps(1e-6),
    word("hidden_act", "ffn.kind", "gelu_pytorch_tanh", GEMMA_ACTIVATIONS),
    Only(name="hidden_activation", value="gelu_pytorch_tanh"),
    ATTENTION_BIAS,
    DROPOUT,
    Rope(),
)

NORMS_BEHIND = {"norm.placement": "sublayer_output"}
OVER_HEADS = {"attention.qk_norm.kind": "rms", "attention.qk_norm.over": "heads"}
LAYER_NORM = {"norm.kind": "layer"}
INTERLEAVED = {"attention.rope.pairing": "interleaved"}
COHERE = {**LAYER_NORM, **INTERLEAVED, "norm.bias": False, "parallel": "one_norm"}
WITHOUT_OUT_BIAS = {"attention.out_bias": False}
MIXTURE = {"ffn.kind": "moe"}
NORMALISED = bias("norm_topk_prob", "ffn.normalise")


def last_rows(rope: Rope = ROPE, *, is_tied: bool = False) -> tuple[Row, ...]:
    """The rows with which most classes end."""
    return (DROPOUT, rope, tied(is_tied))


def plain_activation(default: str) -> Row:
    return word("hidden_act", "ffn.kind", default, PLAIN_ACTIVATIONS)


def part_of_heads(fraction: float) -> Rope:
    return Rope(fraction_key="partial_rotary_factor", fraction=fraction, scalings=("default",))


def float_key(name: str, ours: str, default: float = 1.0) -> Key:
    return Key(name=name, default=default, ours=ours, kind=float)


def parallel_residual(default: bool, kind: str) -> Key:
    """`kind` is which parallel layers a class has."""
    values = {True: kind, False: "none"}
    return Key(name="use_parallel_residual", default=default, ours="parallel", kind=bool, values=values)


def experts(name: str, default: int | None, other_name: str = "") -> Key:
    return Key(name=name, other_name=other_name, default=default, ours="ffn.experts")


def of_token(default: int | None, name: str = "num_experts_per_tok") -> Key:
    return Key(name=name, default=default, ours="ffn.top_k")


def of_hidden(default: int) -> Key:
    return Key(name="moe_intermediate_size", default=default, ours="ffn.hidden")
