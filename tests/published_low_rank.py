"""The published configurations of the gallery's originals whose attention is of low rank."""

from __future__ import annotations

from tests.originals import Original, sizes

LOW_RANK = {
    "attention.kv_heads": None,
    "attention.head_dim": 24,
    "attention.value_dim": 12,
    "attention.low_rank.kv": 18,
    "attention.low_rank.rope_dim": 8,
}
CALLED = {
    "attention.value_dim": "v_head_dim",
    "attention.low_rank.kv": "kv_lora_rank",
    "attention.low_rank.rope_dim": "qk_rope_head_dim",
    "attention.head_dim": "unused",
    "ffn.hidden": "moe_intermediate_size",
    "ffn.experts": "n_routed_experts",
}
"""Small sizes of attention of low rank, and what a configuration calls its keys."""

SMALL_CONFIG = {"qk_nope_head_dim": 16, "num_key_value_heads": 4}
YARN = {
    "rope_type": "yarn",
    "factor": 40.0,
    "original_max_position_embeddings": 4096,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
}

OF_LOW_RANK = (
    Original(
        spec="deepseek_v3",
        architecture="DeepseekV3ForCausalLM",
        mapping="deepseek",
        config=sizes(
            (129280, 7168, 18432, 61, 128, 128),
            moe_intermediate_size=2048,
            n_routed_experts=256,
            n_shared_experts=1,
            num_experts_per_tok=8,
            n_group=8,
            topk_group=4,
            routed_scaling_factor=2.5,
            norm_topk_prob=True,
            first_k_dense_replace=3,
            q_lora_rank=1536,
            kv_lora_rank=512,
            qk_nope_head_dim=128,
            qk_rope_head_dim=64,
            v_head_dim=128,
            rms_norm_eps=1e-06,
            rope_scaling={**YARN, "mscale": 1.0, "mscale_all_dim": 1.0},
            tie_word_embeddings=False,
        ),
        small={
            **LOW_RANK,
            "layers": 4,
            "attention.scale": 0.38249888831204115,  # (0.1 ln 40 + 1)^2 / sqrt(24)
            "attention.low_rank.q": 20,
            "ffn.experts": 16,
            "ffn.hidden": 24,
        },
        small_config=SMALL_CONFIG,
        keys={**CALLED, "attention.low_rank.q": "q_lora_rank"},
    ),
    Original(
        spec="deepseek_v2_lite",
        architecture="DeepseekV2ForCausalLM",
        mapping="deepseek",
        config=sizes(
            (102400, 2048, 10944, 27, 16, 16),
            moe_intermediate_size=1408,
            n_routed_experts=64,
            n_shared_experts=2,
            num_experts_per_tok=6,
            topk_method="greedy",
            norm_topk_prob=False,
            routed_scaling_factor=1.0,
            first_k_dense_replace=1,
            q_lora_rank=None,
            kv_lora_rank=512,
            qk_nope_head_dim=128,
            qk_rope_head_dim=64,
            v_head_dim=128,
            rms_norm_eps=1e-06,
            rope_scaling={**YARN, "mscale": 0.707, "mscale_all_dim": 0.707},
            tie_word_embeddings=False,
        ),
        small={
            **LOW_RANK,
            "attention.scale": 0.32448108219361155,  # (0.0707 ln 40 + 1)^2 / sqrt(24)
            "ffn.experts": 8,
            "ffn.hidden": 24,
            "ffn.top_k": 3,
        },
        small_config=SMALL_CONFIG,
        keys=CALLED,
    ),
)
