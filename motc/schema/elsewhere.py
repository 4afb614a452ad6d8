"""What other programs call the keys and words of the language: told in messages alone, for no spec is read by it."""

from __future__ import annotations

from collections.abc import Mapping


def _named(names: Mapping[str, str]) -> dict[str, str]:
    """The key, or the way out, of each name; lines of several names have them with spaces between."""
    return {name: meant for several, meant in names.items() for name in several.split()}


KEYS = _named(
    {
        "hidden_size d_model n_embd": "width",
        "num_hidden_layers": "layers",
        "num_attention_heads n_head": "attention.heads",
        "num_key_value_heads": "attention.kv_heads",
        "attention_bias qkv_bias use_qkv_bias": "attention.bias",
        "attention_out_bias": "attention.out_bias",
        "sliding_window": "attention.window",
        "attention_multiplier": "attention.scale",
        "attn_logit_softcapping": "attention.softcap",
        "rope_theta": "attention.rope.theta",
        "partial_rotary_factor rotary_pct rotary_percentage": "attention.rope.fraction",
        "mrope_section": "attention.rope.sections",
        "original_max_position_embeddings": "attention.rope.scaling.original_length",
        "intermediate_size moe_intermediate_size ffn_dim d_ff n_inner": "ffn.hidden",
        "mlp_bias": "ffn.bias",
        "num_experts num_local_experts n_routed_experts": "ffn.experts",
        "num_experts_per_tok num_experts_per_token moe_topk": "ffn.top_k",
        "num_shared_experts n_shared_experts moe_num_shared_experts": "ffn.shared_experts",
        "shared_expert_intermediate_size": "ffn.shared_hidden",
        "norm_topk_prob": "ffn.normalise",
        "routed_scaling_factor route_scale router_scaling_factor": "ffn.routed_scale",
        "scoring_func": "ffn.scores",
        "n_group": "ffn.groups",
        "topk_group": "ffn.top_groups",
        "rms_norm_eps layer_norm_eps layer_norm_epsilon norm_eps": "norm.eps",
        "vocab_size": "vocab",
        "tie_word_embeddings": "embedding.tied",
        "embedding_multiplier": "embedding.scale",
        "residual_multiplier": "residual.scale",
        "clip_qkv": "attention.clip",
        "v_head_dim": "attention.value_dim",
        "kv_lora_rank": "attention.low_rank.kv",
        "q_lora_rank": "attention.low_rank.q",
        "qk_rope_head_dim": "attention.low_rank.rope_dim",
        "lm_head_bias": "head.bias",
        "logit_scale": "head.scale",
        "final_logit_softcapping": "head.softcap",
    }
)
"""Of names in configurations elsewhere, the key that is set to the same value here. docs/language.md has them too."""

WAYS_OUT = _named(
    {
        "qk_nope_head_dim": "attention.head_dim is this and attention.low_rank.rope_dim together",
        "hidden_act hidden_activation activation_function": "use ffn.kind: with a gate silu is swiglu, gelu geglu and "
        "gelu_pytorch_tanh geglu_tanh; without one they are silu, gelu and gelu_tanh",
        "query_pre_attn_scalar": "attention.scale is 1 over its root",
        "logits_scaling": "head.scale is 1 over it where the class divides by it, as Granite does",
        "rotary_dim": "attention.rope.fraction is this over head_dim",
        "rope_scaling rope_parameters rope_type": "use attention.rope and its `scaling`",
        "rope_interleave rope_interleaved": "use attention.rope.pairing: half or interleaved",
        "use_qk_norm qk_layernorm use_qk_layernorm": "use attention.qk_norm: rms, layer or a section",
        "e_score_correction_bias": "use ffn.correction",
        "router_aux_loss_coef": "ffn.balance is this times ffn.top_k",
        "use_parallel_residual parallel_attn": "use parallel: one_norm or two_norms",
        "epsilon": "use norm.eps",
        "max_position_embeddings": "positions have no end, unless they are learned: positions.learned",
        "dropout attention_dropout hidden_dropout resid_pdrop attn_pdrop embd_pdrop": "there is no dropout",
        "layer_types sliding_window_pattern no_rope_layers mlp_only_layers first_k_dense_replace decoder_sparse_step "
        "max_window_layers rope_local_base_freq": "what some layers have otherwise is said by a statement: "
        "`layers 3..11 step 4 { … }`, by_layer in YAML",
    }
)  # fmt: skip
"""Of names that no key has the value of, what there is to do."""

WORDS = _named(
    {
        "gelu_pytorch_tanh gelu_new gelu_fast": "gelu_tanh geglu_tanh",
        "gelu_python": "gelu geglu",
        "swish": "silu swiglu",
        "relu_squared squared_relu": "relu2 reglu2",
        "layernorm layer_norm": "layer",
        "rmsnorm rms_norm": "rms",
        "sandwich pre_post": "both",
        "rectified_flow flow_matching": "flow",
    }
)
"""Of values elsewhere, the words that mean the same: of an activation the feed-forward without a gate, and with one."""
