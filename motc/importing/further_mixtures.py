"""The table: further classes of text alone, with experts."""

from __future__ import annotations

from motc.importing.architecture import Architecture, bias, head_dim, rms_eps, sizes, tied
from motc.importing.by_layer import PositionsInWindows, WindowByLayer
from motc.importing.mixtures import Balance, DenseLayers, FirstLayersDense, LayersBetween
from motc.importing.rotary import Rope
from motc.importing.rows import Key, Only, Passed
from motc.importing.shared_rows import (
    ATTENTION_BIAS,
    BOTH_NORMS,
    DROPOUT,
    EXPERTS,
    INTERLEAVED,
    MIXTURE,
    NORMALISED,
    NORMS_BEHIND,
    OVER_HEADS,
    TEXT,
    WITHOUT_OUT_BIAS,
    experts,
    float_key,
    last_rows,
    of_hidden,
    of_token,
)

CORRECTED = {**MIXTURE, "ffn.correction": True}
BY_SIGMOID = {**CORRECTED, "ffn.scores": "sigmoid"}

FURTHER_MIXTURES = (
    Architecture(
        name="OlmoeForCausalLM",
        mapping="qwen3_moe",
        settings={**TEXT, **MIXTURE, **OVER_HEADS},
        rows=(
            *sizes(50304, 2048, 2048, 16, 16, None),
            rms_eps(1e-5),
            EXPERTS,
            experts("num_experts", 64),
            of_token(8),
            NORMALISED,
            Balance(default=0.01),
            ATTENTION_BIAS,
            Only(name="clip_qkv", value=None),  # behind the norms of queries and keys, where a spec has it before them
            *last_rows(),
        ),
    ),
    Architecture(
        name="FlexOlmoForCausalLM",
        mapping="flex_olmo",
        settings={**TEXT, **MIXTURE, **OVER_HEADS, **NORMS_BEHIND},
        rows=(
            *sizes(100352, 4096, 11008, 32, 32, None),
            rms_eps(1e-6),
            EXPERTS,
            experts("num_experts", 7),
            of_token(5),
            NORMALISED,
            Balance(default=0.01),
            ATTENTION_BIAS,
            *last_rows(Rope(theta=500000.0)),
        ),
    ),
    Architecture(
        name="Qwen2MoeForCausalLM",
        mapping="qwen2_moe",
        settings={**TEXT, **MIXTURE, **WITHOUT_OUT_BIAS, "ffn.shared_experts": 1, "ffn.shared_gate": True},
        rows=(
            *sizes(151936, 2048, 5632, 24, 16, 16),
            rms_eps(1e-6),
            EXPERTS,
            of_hidden(1408),
            Key(name="shared_expert_intermediate_size", default=5632, ours="ffn.shared_hidden"),
            experts("num_experts", 60),
            of_token(4),
            NORMALISED,
            Balance(default=0.001),
            DenseLayers(hidden=5632),
            bias("qkv_bias", "attention.bias", True),
            Only(name="use_sliding_window", value=False),
            WindowByLayer(),
            *last_rows(),
        ),
    ),
    Architecture(
        name="Dots1ForCausalLM",
        mapping="dots1",
        settings={**TEXT, **BY_SIGMOID, "attention.qk_norm": "rms"},
        rows=(
            *sizes(152064, 4608, 10944, 62, 32, None),
            head_dim(),
            rms_eps(1e-6),
            EXPERTS,
            of_hidden(1408),
            Key(name="n_shared_experts", ours="ffn.shared_experts"),
            experts("n_routed_experts", None),
            Key(name="n_group", default=1, ours="ffn.groups"),
            Key(name="topk_group", default=1, ours="ffn.top_groups"),
            of_token(None),
            NORMALISED,
            float_key("routed_scaling_factor", "ffn.routed_scale"),
            FirstLayersDense(name="first_k_dense_replace", default=0, hidden=10944),
            ATTENTION_BIAS,
            WindowByLayer(default=4096, first=("max_window_layers", 62)),
            *last_rows(),
        ),
    ),
    Architecture(
        name="AfmoeForCausalLM",
        mapping="afmoe",
        settings={**TEXT, **BY_SIGMOID, **BOTH_NORMS, "attention.qk_norm": "rms", "attention.gate": True},
        rows=(
            *sizes(200192, 2048, 6144, 32, 16, None),
            head_dim(128),
            rms_eps(1e-5),
            EXPERTS,
            of_hidden(1408),
            Key(name="num_shared_experts", default=2, ours="ffn.shared_experts"),
            experts("num_experts", 64),
            of_token(6),
            float_key("route_scale", "ffn.routed_scale"),
            FirstLayersDense(name="num_dense_layers", default=1, hidden=6144),
            Key(
                name="mup_enabled",
                default=False,
                ours="embedding.scale",
                kind=bool,
                values={True: "sqrt_width", False: 1},
            ),
            Only(name="attention_bias", value=False),
            WindowByLayer(default=1024, every=("global_attn_every_n_layers", 4)),
            DROPOUT,
            Rope(),
            PositionsInWindows(),
            tied(False),
        ),
    ),
    Architecture(
        name="Ernie4_5_MoeForCausalLM",
        mapping="ernie4_5_moe",
        settings={**TEXT, **CORRECTED, **INTERLEAVED},
        rows=(
            *sizes(103424, 2560, 12288, 28, 20, 4),
            head_dim(),
            rms_eps(1e-5),
            EXPERTS,
            of_hidden(1536),
            Key(name="moe_num_shared_experts", default=2, ours="ffn.shared_experts"),
            experts("moe_num_experts", 64),
            of_token(6, "moe_k"),
            Only(name="moe_norm_min", value=1e-12),
            LayersBetween(hidden=12288, last=27),
            Passed(names=("router_aux_loss_coef",)),  # of no loss where routers are corrected
            Only(name="use_bias", value=False),
            *last_rows(Rope(theta=500000.0), is_tied=True),
        ),
    ),
)
