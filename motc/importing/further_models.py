"""The table: further classes of text alone, without experts."""

from __future__ import annotations

from typing import Any

from motc.importing.architecture import (
    PLAIN_ACTIVATIONS,
    Architecture,
    bias,
    head_dim,
    layer_eps,
    number,
    rms_eps,
    sizes,
    tied,
    word,
)
from motc.importing.by_layer import PositionsInWindows, Window, WindowByLayer
from motc.importing.rotary import Rope, RopeByLayerType
from motc.importing.rows import Key, Noted, Only, Reciprocal
from motc.importing.shared_rows import ATTENTION_BIAS, BOTH_NORMS, DROPOUT, MLP_BIAS, SILU, TEXT

NORMS_BEHIND = {"norm.placement": "sublayer_output"}
OVER_HEADS = {"attention.qk_norm.kind": "rms", "attention.qk_norm.over": "heads"}
LAYER_NORM = {"norm.kind": "layer"}
INTERLEAVED = {"attention.rope.pairing": "interleaved"}
WITHOUT_OUT_BIAS = {"attention.out_bias": False}


def plain_activation(default: str) -> Any:
    return word("hidden_act", "ffn.kind", default, PLAIN_ACTIVATIONS)


def part_of_heads(fraction: float) -> Rope:
    return Rope(fraction_key="partial_rotary_factor", fraction=fraction, scalings=("default",))


def float_key(name: str, ours: str, default: float = 1.0) -> Key:
    return Key(name=name, default=default, ours=ours, kind=float)


FURTHER_MODELS = (
    Architecture(
        name="GraniteForCausalLM",
        mapping="llama",
        settings=TEXT,
        rows=(
            *sizes(32000, 4096, 11008, 32, 32, None),
            rms_eps(1e-6),
            SILU,
            ATTENTION_BIAS,
            MLP_BIAS,
            float_key("embedding_multiplier", "embedding.scale"),
            float_key("attention_multiplier", "attention.scale"),
            float_key("residual_multiplier", "residual.scale"),
            Reciprocal(name="logits_scaling", default=1.0, ours="head.scale", kind=float),
            DROPOUT,
            Rope(),
            tied(False),
        ),
    ),
    Architecture(
        name="OlmoForCausalLM",
        mapping="llama",
        settings={**TEXT, **LAYER_NORM, "norm.weight": False, "norm.eps": 1e-5},
        rows=(
            *sizes(50304, 4096, 11008, 32, 32, None),
            SILU,
            ATTENTION_BIAS,
            number("clip_qkv", "attention.clip"),
            DROPOUT,
            Rope(),
            tied(False),
        ),
    ),
    Architecture(
        name="Olmo2ForCausalLM",
        mapping="olmo2",
        settings={**TEXT, **NORMS_BEHIND, **OVER_HEADS},
        rows=(
            *sizes(50304, 4096, 11008, 32, 32, None),
            rms_eps(1e-5),
            SILU,
            ATTENTION_BIAS,
            DROPOUT,
            Rope(),
            tied(False),
        ),
    ),
    Architecture(
        name="Olmo3ForCausalLM",
        mapping="olmo2",
        settings={**TEXT, **NORMS_BEHIND, **OVER_HEADS},
        rows=(
            *sizes(50304, 4096, 11008, 32, 32, None),
            rms_eps(1e-5),
            SILU,
            ATTENTION_BIAS,
            WindowByLayer(default=4096, every=("", 4)),
            DROPOUT,
            RopeByLayerType(theta=500000.0, local_theta=500000.0, in_parts=True),
            tied(False),
        ),
    ),
    Architecture(
        name="Exaone4ForCausalLM",
        mapping="olmo2",
        settings={**TEXT, **NORMS_BEHIND, "attention.qk_norm": "rms"},
        rows=(
            *sizes(102400, 4096, 16384, 32, 32, 32),
            head_dim(),
            rms_eps(1e-5),
            SILU,
            WindowByLayer(default=4096, every=("sliding_window_pattern", 4)),
            DROPOUT,
            Rope(),
            PositionsInWindows(unless_null=True),
            tied(False),
        ),
    ),
    Architecture(
        name="Cohere2ForCausalLM",
        mapping="cohere",
        settings={**TEXT, **LAYER_NORM, **INTERLEAVED, "norm.bias": False, "parallel": "one_norm"},
        rows=(
            *sizes(256000, 8192, 22528, 40, 64, None),
            head_dim(),
            layer_eps(1e-5),
            SILU,
            float_key("logit_scale", "head.scale", 0.0625),
            ATTENTION_BIAS,
            WindowByLayer(default=4096, every=("sliding_window_pattern", 4)),
            DROPOUT,
            Rope(),
            PositionsInWindows(),
            tied(True),
        ),
    ),
    Architecture(
        name="Starcoder2ForCausalLM",
        mapping="starcoder2",
        settings={**TEXT, **LAYER_NORM},
        rows=(
            *sizes(49152, 3072, 12288, 30, 24, 2),
            float_key("norm_epsilon", "norm.eps", 1e-5),
            plain_activation("gelu_pytorch_tanh"),
            bias("use_bias", "attention.bias", True),
            bias("use_bias", "ffn.bias", True),
            Window(),
            Noted(name="residual_dropout"),
            Noted(name="embedding_dropout"),
            DROPOUT,
            Rope(),
            tied(True),
        ),
    ),
    Architecture(
        name="StableLmForCausalLM",
        mapping="llama",
        settings={**TEXT, **LAYER_NORM, **WITHOUT_OUT_BIAS},
        rows=(
            *sizes(50304, 2560, 6912, 32, 32, 32),
            layer_eps(1e-5),
            SILU,
            bias("use_qkv_bias", "attention.bias"),
            Only(name="qk_layernorm", value=False),
            Key(
                name="use_parallel_residual",
                default=False,
                ours="parallel",
                kind=bool,
                values={True: "one_norm", False: "none"},
            ),
            Noted(name="hidden_dropout"),
            DROPOUT,
            part_of_heads(0.25),
            tied(False),
        ),
    ),
    Architecture(
        name="PhiForCausalLM",
        mapping="phi",
        settings={**TEXT, **LAYER_NORM, "attention.bias": True, "ffn.bias": True, "head.bias": True}
        | {"parallel": "one_norm"},
        rows=(
            *sizes(51200, 2048, 8192, 24, 32, None),
            layer_eps(1e-5),
            plain_activation("gelu_new"),
            Only(name="qk_layernorm", value=False),
            Noted(name="resid_pdrop"),
            Noted(name="embd_pdrop"),
            DROPOUT,
            part_of_heads(0.5),
            tied(False),
        ),
    ),
    Architecture(
        name="NemotronForCausalLM",
        mapping="llama",
        settings={**TEXT, **LAYER_NORM, "norm.offset": 1},
        rows=(
            *sizes(256000, 6144, 24576, 32, 48, None),
            head_dim(),
            float_key("norm_eps", "norm.eps", 1e-5),
            plain_activation("relu2"),
            ATTENTION_BIAS,
            MLP_BIAS,
            DROPOUT,
            part_of_heads(0.5),
            tied(False),
        ),
    ),
    Architecture(
        name="ArceeForCausalLM",
        mapping="llama",
        settings=TEXT,
        rows=(
            *sizes(32000, 2560, 18432, 32, 32, None),
            head_dim(),
            rms_eps(1e-5),
            plain_activation("relu2"),
            ATTENTION_BIAS,
            MLP_BIAS,
            DROPOUT,
            Rope(),
            tied(False),
        ),
    ),
    Architecture(
        name="GlmForCausalLM",
        mapping="glm",
        settings={**TEXT, **INTERLEAVED, **WITHOUT_OUT_BIAS},
        rows=(
            *sizes(151552, 4096, 13696, 40, 32, 2),
            head_dim(128),
            rms_eps(1.5625e-07),
            SILU,
            bias("attention_bias", "attention.bias", True),
            DROPOUT,
            part_of_heads(0.5),
            tied(False),
        ),
    ),
    Architecture(
        name="Glm4ForCausalLM",
        mapping="glm4",
        settings={**TEXT, **INTERLEAVED, **WITHOUT_OUT_BIAS, **BOTH_NORMS},
        rows=(
            *sizes(151552, 4096, 13696, 40, 32, 2),
            head_dim(128),
            rms_eps(1.5625e-07),
            SILU,
            bias("attention_bias", "attention.bias", True),
            DROPOUT,
            part_of_heads(0.5),
            tied(False),
        ),
    ),
    Architecture(
        name="HeliumForCausalLM",
        mapping="llama",
        settings={**TEXT, **INTERLEAVED, **WITHOUT_OUT_BIAS},
        rows=(
            *sizes(48000, 2560, 7040, 24, 20, 20),
            head_dim(128),
            rms_eps(1e-8),
            SILU,
            ATTENTION_BIAS,
            MLP_BIAS,
            DROPOUT,
            Rope(theta=100000.0),
            tied(False),
        ),
    ),
    Architecture(
        name="MinistralForCausalLM",
        mapping="llama",
        settings=TEXT,
        rows=(
            *sizes(32000, 4096, 14336, 32, 32, 8),
            head_dim(),
            rms_eps(1e-6),
            SILU,
            WindowByLayer(default=4096, first=("", 0)),
            DROPOUT,
            Rope(),
            tied(False),
        ),
    ),
    Architecture(
        name="SeedOssForCausalLM",
        mapping="llama",
        settings=TEXT,
        rows=(
            *sizes(155136, 4096, 27648, 64, 80, 8),
            head_dim(128),
            rms_eps(1e-6),
            SILU,
            bias("attention_bias", "attention.bias", True),
            bias("attention_out_bias", "attention.out_bias"),
            MLP_BIAS,
            Noted(name="attention_dropout", default=0.1),
            Noted(name="residual_dropout", default=0.1),
            Rope(),
            tied(False),
        ),
    ),
    Architecture(
        name="Ernie4_5ForCausalLM",
        mapping="llama",
        settings={**TEXT, **INTERLEAVED},
        rows=(
            *sizes(103424, 1024, 3072, 18, 16, 2),
            head_dim(128),
            rms_eps(1e-5),
            SILU,
            bias("use_bias", "attention.bias"),
            bias("use_bias", "ffn.bias"),
            Rope(theta=500000.0),
            tied(True),
        ),
    ),
)
