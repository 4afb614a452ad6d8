"""Models whose specs were written from docs/language.md alone: layers that differ, parts that elsewhere stand apart.

Weights go through mapping files as transformers' classes hold them, experts in one tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import motc
from motc.driver import compile_ir
from motc.weights import bijection_of, parameters_of, read_mapping
from tests.originals import as_parameters, widened

transformers = pytest.importorskip("transformers", minversion="5.0")

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "vocab_size": 61,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
    "attn_implementation": "eager",
    "experts_implementation": "eager",
}
EXPERTS = {"num_experts_per_tok": 3, "moe_intermediate_size": 20}
LLAMA = {
    "model.embed_tokens": "embedding",
    "model.layers.*.input_layernorm": "layers.*.attention.norm",
    "model.layers.*.self_attn.q_proj": "layers.*.attention.q",
    "model.layers.*.self_attn.k_proj": "layers.*.attention.k",
    "model.layers.*.self_attn.v_proj": "layers.*.attention.v",
    "model.layers.*.self_attn.o_proj": "layers.*.attention.out",
    "model.layers.*.post_attention_layernorm": "layers.*.ffn.norm",
    "model.layers.*.mlp.gate_proj": "layers.*.ffn.gate",
    "model.layers.*.mlp.up_proj": "layers.*.ffn.up",
    "model.layers.*.mlp.down_proj": "layers.*.ffn.down",
    "model.norm": "final_norm",
    "lm_head": "head",
}
NORMED_HEADS = {f"model.layers.*.self_attn.{each}_norm": f"layers.*.attention.{each}_norm" for each in "qk"}
MIXTURE = {
    "model.layers.*.mlp.gate": "layers.*.ffn.router",
    "model.layers.*.mlp.experts.gate_up_proj": "{expert_rows: [layers.*.ffn.gate.weight, layers.*.ffn.up.weight]}",
    "model.layers.*.mlp.experts.down_proj": "layers.*.ffn.down.weight",
}
SHARED = {
    f"model.layers.*.mlp.shared_experts.{each}_proj": f"layers.*.ffn.shared.{each}" for each in ("gate", "up", "down")
}
CORRECTED = {"model.layers.*.mlp.gate.e_score_correction_bias": "layers.*.ffn.router.correction"}
LOW_RANK = {
    **{f"model.layers.*.self_attn.{each}_proj": "" for each in "qkv"},
    "model.layers.*.self_attn.q_a_proj": "layers.*.attention.q_down",
    "model.layers.*.self_attn.q_a_layernorm": "layers.*.attention.q_down_norm",
    "model.layers.*.self_attn.q_b_proj": "layers.*.attention.q",
    "model.layers.*.self_attn.kv_a_proj_with_mqa": "{rows: [layers.*.attention.kv_down, layers.*.attention.k_rope]}",
    "model.layers.*.self_attn.kv_a_layernorm": "layers.*.attention.kv_down_norm",
    "model.layers.*.self_attn.kv_b_proj": "{head_rows: [layers.*.attention.k, layers.*.attention.v]}",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A class, what its configuration has besides `SIZES`, the spec, and where weights go that Llama has not so.

    `more` has in place of a name of `LLAMA` another one, and further ones. `shapes` says by the ends of names which
    parameters the class holds in another shape.
    """

    architecture: str
    config: dict[str, Any] = field(default_factory=dict)
    spec: str
    more: dict[str, str] = field(default_factory=dict)
    base: dict[str, str] = field(default_factory=lambda: LLAMA)
    shapes: dict[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)

    def shaped(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint's tensors as the mapping has them."""
        ends = {name: next((end for end in self.shapes if name.endswith(end)), None) for name in tensors}
        return {name: self.shapes[end](each) if (end := ends[name]) else each for name, each in tensors.items()}


def rope(**parameters: Any) -> dict[str, Any]:
    """How a configuration says positions; Llama 3's scaling wants its factors, which are the language's defaults."""
    factors = {"low_freq_factor": 1.0, "high_freq_factor": 4.0} if parameters.get("rope_type") == "llama3" else {}
    return {"rope_parameters": {"rope_type": "default", **parameters, **factors}}


def experts_first(rows: Tensor) -> Tensor:
    """Rows of all experts [E * n, width] by expert, as DBRX has four of them."""
    return rows.unflatten(0, (4, -1))


CASES = {
    "Afmoe": Case(
        architecture="AfmoeForCausalLM",
        config={**EXPERTS, "num_hidden_layers": 4, "head_dim": 12, "sliding_window": 4, "num_experts": 8}
        | {"num_shared_experts": 2, "route_scale": 2.5, "num_dense_layers": 1, "mup_enabled": True},
        spec="""
          layers = 4
          attention { heads = 4, kv_heads = 2, head_dim = 12, qk_norm = rms, gate = true, window = 4 }
          layer 3 { attention { window = none, rope = none } }
          ffn {
            kind = moe, hidden = 20, experts = 8, top_k = 3, scores = sigmoid, correction = true, routed_scale = 2.5
            shared_experts = 2
          }
          layer 0 { ffn { kind = swiglu, hidden = 48 } }
          norm { placement = both }
          embedding { scale = sqrt_width }""",
        more={
            **NORMED_HEADS, **MIXTURE, **SHARED,
            "model.layers.*.mlp.gate": "",
            "model.layers.*.mlp.router.gate": "layers.*.ffn.router",
            "model.layers.*.mlp.expert_bias": "layers.*.ffn.router.correction",
            "model.layers.*.self_attn.gate_proj": "layers.*.attention.gate",
            "model.layers.*.post_attention_layernorm": "layers.*.attention.out_norm",
            "model.layers.*.pre_mlp_layernorm": "layers.*.ffn.norm",
            "model.layers.*.post_mlp_layernorm": "layers.*.ffn.out_norm",
        },
    ),
    "Dots1": Case(
        architecture="Dots1ForCausalLM",
        config={**EXPERTS, "head_dim": 8, "n_routed_experts": 8, "n_shared_experts": 2, "n_group": 4, "topk_group": 2}
        | {"norm_topk_prob": True, "routed_scaling_factor": 2.5, "first_k_dense_replace": 1},
        spec="""
          layers = 3
          attention { heads = 4, kv_heads = 2, qk_norm = rms }
          ffn {
            kind = moe, hidden = 20, experts = 8, top_k = 3, scores = sigmoid, correction = true, routed_scale = 2.5
            groups = 4, top_groups = 2, shared_experts = 2
          }
          layer 0 { ffn { kind = swiglu, hidden = 48 } }
          norm { eps = 1e-6 }""",
        more={**NORMED_HEADS, **MIXTURE, **SHARED, **CORRECTED},
    ),
    "ERNIE-4.5": Case(
        architecture="Ernie4_5_MoeForCausalLM",
        config={**EXPERTS, **rope(rope_theta=500000.0), "moe_num_experts": 8, "num_experts": 8, "moe_k": 3}
        | {"moe_num_shared_experts": 2, "moe_layer_start_index": 1, "moe_layer_end_index": 2},
        spec="""
          layers = 3
          attention { heads = 4, kv_heads = 2, rope { theta = 500000, pairing = interleaved } }
          ffn { hidden = 48 }
          layers 1..2 {
            ffn { kind = moe, hidden = 20, experts = 8, top_k = 3, correction = true, shared_experts = 2 }
          }""",
        more={
            **MIXTURE, **SHARED,
            "model.layers.*.mlp.gate.moe_statics.e_score_correction_bias":
                "{stacked: [layers.*.ffn.router.correction]}",
        },
    ),
    "FlexOlmo": Case(
        architecture="FlexOlmoForCausalLM",
        config={**rope(rope_theta=500000.0), "num_experts": 4, "num_experts_per_tok": 2},
        spec="""
          layers = 3
          attention { heads = 4, kv_heads = 2, qk_norm { kind = rms, over = heads }, rope { theta = 500000 } }
          ffn { kind = moe, hidden = 48, experts = 4, top_k = 2, normalise = false }
          norm { eps = 1e-6, placement = sublayer_output }""",
        more={
            **NORMED_HEADS, **MIXTURE,
            "model.layers.*.input_layernorm": "",
            "model.layers.*.post_attention_layernorm": "layers.*.attention.norm",
            "model.layers.*.post_feedforward_layernorm": "layers.*.ffn.norm",
        },
    ),
    "Mellum": Case(
        architecture="MellumForCausalLM",
        config={**EXPERTS, "num_hidden_layers": 4, "head_dim": 12, "sliding_window": 4, "num_experts": 8}
        | {"layer_types": ["sliding_attention"] * 3 + ["full_attention"]}
        | {
            "rope_parameters": {
                "full_attention": {"rope_type": "yarn", "rope_theta": 500000.0, "factor": 4.0}
                | {"original_max_position_embeddings": 16},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            }
        },
        spec="""
          layers = 4
          attention { heads = 4, kv_heads = 2, head_dim = 12, qk_norm = rms, window = 4 }
          layer 3 {
            attention {
              window = none
              rope { theta = 500000, scaling { kind = yarn, factor = 4, original_length = 16 } }
            }
          }
          ffn { kind = moe, hidden = 20, experts = 8, top_k = 3 }
          norm { eps = 1e-6 }""",
        more={**NORMED_HEADS, **MIXTURE},
    ),
    "CWM": Case(
        architecture="CwmForCausalLM",
        config={"num_hidden_layers": 5, "head_dim": 12, "sliding_window": 4}
        | rope(rope_type="llama3", rope_theta=1e6, factor=16.0, original_max_position_embeddings=32),
        spec="""
          layers = 5
          attention {
            heads = 4, kv_heads = 2, head_dim = 12, window = 4
            rope { theta = 1e6, scaling { kind = llama3, factor = 16, original_length = 32 } }
          }
          layers 0..4 step 4 { attention { window = none } }
          ffn { hidden = 48 }""",
    ),
    "Granite": Case(
        architecture="GraniteForCausalLM",
        config={"residual_multiplier": 0.22, "embedding_multiplier": 12.0, "logits_scaling": 8.0}
        | {"attention_multiplier": 0.25},
        spec="""
          layers = 3
          attention { heads = 4, kv_heads = 2, scale = 0.25 }
          ffn { hidden = 48 }
          norm { eps = 1e-6 }
          residual { scale = 0.22 }
          embedding { scale = 12 }
          head { scale = 0.125 }""",
    ),
    "OLMo": Case(
        architecture="OlmoForCausalLM",
        config={"clip_qkv": 0.7},
        spec="""
          layers = 3
          attention { heads = 4, kv_heads = 2, clip = 0.7 }
          ffn { hidden = 48 }
          norm { kind = layer, weight = false }""",
        more={f"model.layers.*.{each}_layernorm": "" for each in ("input", "post_attention")} | {"model.norm": ""},
    ),
    "Persimmon": Case(
        architecture="PersimmonForCausalLM",
        config=rope(rope_theta=25000.0, partial_rotary_factor=0.5),
        spec="""
          layers = 3
          attention {
            heads = 4, bias = true, qk_norm { kind = layer, by_head = false }, rope { theta = 25000, fraction = 0.5 }
          }
          ffn { kind = relu2, hidden = 48, bias = true }
          norm { kind = layer }""",
        base={
            "model.embed_tokens": "embedding",
            "model.layers.*.input_layernorm": "layers.*.attention.norm",
            "model.layers.*.self_attn.query_key_value":
                "{head_rows: [layers.*.attention.q, layers.*.attention.k, layers.*.attention.v]}",
            "model.layers.*.self_attn.dense": "layers.*.attention.out",
            "model.layers.*.self_attn.q_layernorm": "layers.*.attention.q_norm",
            "model.layers.*.self_attn.k_layernorm": "layers.*.attention.k_norm",
            "model.layers.*.post_attention_layernorm": "layers.*.ffn.norm",
            "model.layers.*.mlp.dense_h_to_4h": "layers.*.ffn.up",
            "model.layers.*.mlp.dense_4h_to_h": "layers.*.ffn.down",
            "model.final_layernorm": "final_norm",
            "lm_head": "head",
        },
    ),
    "GPT-Neo": Case(
        architecture="GPTNeoForCausalLM",
        config={"num_layers": 3, "num_heads": 4, "attention_types": [[["global", "local", "global"], 1]]}
        | {"window_size": 4},
        spec="""
          layers = 3
          attention { heads = 4, out_bias = true, rope = none, scale = 1 }
          layer 1 { attention { window = 4 } }
          ffn { kind = gelu_tanh, hidden = 48, bias = true }
          norm { kind = layer }
          positions { learned = 64 }""",
        base={
            "transformer.wte": "embedding",
            "transformer.wpe": "position_embedding",
            "transformer.h.*.ln_1": "layers.*.attention.norm",
            **{f"transformer.h.*.attn.attention.{each}_proj": f"layers.*.attention.{each}" for each in "qkv"},
            "transformer.h.*.attn.attention.out_proj": "layers.*.attention.out",
            "transformer.h.*.ln_2": "layers.*.ffn.norm",
            "transformer.h.*.mlp.c_fc": "layers.*.ffn.up",
            "transformer.h.*.mlp.c_proj": "layers.*.ffn.down",
            "transformer.ln_f": "final_norm",
            "lm_head": "head",
        },
    ),
    "EmbeddingGemma": Case(
        architecture="Gemma3ForCausalLM",
        config={"hidden_size": 64, "num_hidden_layers": 6, "head_dim": 16, "query_pre_attn_scalar": 256}
        | {"sliding_window": 6, "use_bidirectional_attention": True},
        spec="""
          layers = 6
          attention { heads = 4, kv_heads = 2, head_dim = 16, scale = 0.0625, qk_norm = rms, mask = full, window = 4 }
          layer 5 { attention { window = none, rope { theta = 1000000 } } }
          ffn { kind = geglu_tanh, hidden = 48 }
          norm { eps = 1e-6, offset = 1, placement = both }
          embedding { scale = sqrt_width }""",
        more={
            **NORMED_HEADS,
            "model.layers.*.post_attention_layernorm": "layers.*.attention.out_norm",
            "model.layers.*.pre_feedforward_layernorm": "layers.*.ffn.norm",
            "model.layers.*.post_feedforward_layernorm": "layers.*.ffn.out_norm",
        },
    ),
    "MiniCPM3": Case(
        architecture="MiniCPM3ForCausalLM",
        config={"num_key_value_heads": 4, "kv_lora_rank": 12, "q_lora_rank": 20, "qk_nope_head_dim": 8}
        | {"qk_rope_head_dim": 4, "v_head_dim": 8, "scale_emb": 12, "scale_depth": 3**0.5 / 4, "dim_model_base": 16},
        spec="""
          layers = 3
          attention { heads = 4, head_dim = 12, value_dim = 8, low_rank { kv = 12, q = 20, rope_dim = 4, eps = 1e-6 } }
          ffn { hidden = 48 }
          residual { scale = 0.25 }
          embedding { scale = 12 }
          head { scale = 0.5 }""",
        more=LOW_RANK,
    ),
    "Youtu": Case(
        architecture="YoutuForCausalLM",
        config={"num_key_value_heads": 4, "kv_lora_rank": 12, "q_lora_rank": 20, "qk_nope_head_dim": 8}
        | {"qk_rope_head_dim": 4, "v_head_dim": 8},
        spec="""
          layers = 3
          attention {
            heads = 4, head_dim = 12, value_dim = 8
            low_rank { kv = 12, q = 20, rope_dim = 4, eps = 1e-6 }, rope { pairing = interleaved }
          }
          ffn { hidden = 48 }
          norm { eps = 1e-6 }""",
        more=LOW_RANK,
    ),
    "MiMo-V2-Flash": Case(  # but for what it multiplies values by, 0.707, which here the maps to values are
        architecture="MiMoV2FlashForCausalLM",
        config={**EXPERTS, "num_hidden_layers": 4, "head_dim": 12, "v_head_dim": 8, "sliding_window": 4}
        | {"n_routed_experts": 8, "routed_scaling_factor": 1.5, "attention_value_scale": None, "norm_topk_prob": True}
        | {"layer_types": ["full_attention", *["sliding_attention"] * 2, "full_attention"]}
        | {
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 5e6, "partial_rotary_factor": 0.334},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.334},
            }
        },
        spec="""
          layers = 4
          attention { heads = 4, kv_heads = 2, head_dim = 12, value_dim = 8, rope { theta = 5e6, fraction = 0.334 } }
          layers 1..2 { attention { kv_heads = 4, window = 4, sinks = true, rope { theta = 10000 } } }
          ffn {
            kind = moe, hidden = 20, experts = 8, top_k = 3, scores = sigmoid, correction = true, routed_scale = 1.5
          }
          layer 0 { ffn { kind = swiglu, hidden = 48 } }""",
        more={**MIXTURE, **CORRECTED, "model.layers.*.self_attn.sinks": "layers.*.attention.sinks.weight"},
    ),
    "GPT-NeoX-Japanese": Case(
        architecture="GPTNeoXJapaneseForCausalLM",
        config={"intermediate_multiple_size": 2, **rope(rope_theta=10000.0, partial_rotary_factor=0.5)},
        spec="""
          layers = 3
          attention { heads = 4, rope { fraction = 0.5 } }
          layer 2 { attention { out_bias = true } }
          ffn { kind = gelu, hidden = 64 }
          norm { kind = layer }""",
        base={
            "gpt_neox_japanese.embed_in": "embedding",
            "gpt_neox_japanese.layers.*.input_layernorm": "layers.*.attention.norm",
            "gpt_neox_japanese.layers.*.attention.query_key_value":
                "{head_rows: [layers.*.attention.q, layers.*.attention.k, layers.*.attention.v]}",
            "gpt_neox_japanese.layers.*.attention.dense": "layers.*.attention.out",
            "gpt_neox_japanese.layers.*.attention.dense_bias": "layers.*.attention.out.bias",
            "gpt_neox_japanese.layers.*.post_attention_layernorm": "layers.*.ffn.norm",
            "gpt_neox_japanese.layers.*.mlp.dense_h_to_4h": "layers.*.ffn.up",
            "gpt_neox_japanese.layers.*.mlp.dense_4h_to_h": "layers.*.ffn.down",
            "gpt_neox_japanese.final_layer_norm": "final_norm",
            "embed_out": "head",
        },
    ),
    "DBRX": Case(
        architecture="DbrxForCausalLM",
        config={"d_model": 32, "attn_config": {"kv_n_heads": 2, "clip_qkv": 0.7, "rope_theta": 10000.0}}
        | {"ffn_config": {"ffn_hidden_size": 20, "moe_num_experts": 4, "moe_top_k": 2}},
        spec="""
          layers = 3
          attention { heads = 4, kv_heads = 2, clip = 0.7 }
          ffn { kind = moe, hidden = 20, experts = 4, top_k = 2 }
          norm { kind = layer, bias = false }""",
        base={
            "transformer.wte": "embedding",
            "transformer.blocks.*.norm_attn_norm.norm_1": "layers.*.attention.norm",
            "transformer.blocks.*.norm_attn_norm.attn.Wqkv":
                "{rows: [layers.*.attention.q, layers.*.attention.k, layers.*.attention.v]}",
            "transformer.blocks.*.norm_attn_norm.attn.out_proj": "layers.*.attention.out",
            "transformer.blocks.*.norm_attn_norm.norm_2": "layers.*.ffn.norm",
            "transformer.blocks.*.ffn.router.layer": "layers.*.ffn.router",
            "transformer.blocks.*.ffn.experts.mlp.w1": "layers.*.ffn.gate.weight",
            "transformer.blocks.*.ffn.experts.mlp.v1": "layers.*.ffn.up.weight",
            "transformer.blocks.*.ffn.experts.mlp.w2": "layers.*.ffn.down.weight",
            "transformer.norm_f": "final_norm",
            "lm_head": "head",
        },
        shapes={"mlp.w1": experts_first, "mlp.v1": experts_first, "mlp.w2": lambda rows: experts_first(rows).mT},
    ),
}  # fmt: skip


def close(got: Tensor, expected: Tensor, name: str) -> None:
    scale = expected.abs().max()
    assert scale > 0, name
    torch.testing.assert_close(got / scale, expected / scale, rtol=1e-9, atol=1e-9, msg=lambda why: f"{name} {why}")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_logits_and_gradients(case: Case, tmp_path: Path) -> None:
    torch.manual_seed(0)
    kind: Any = getattr(transformers, case.architecture)
    theirs = kind(kind.config_class(**SIZES | case.config)).eval()
    as_parameters(theirs, torch.float64)
    held = dict(theirs.named_parameters())
    held |= {name: buffer for name, buffer in theirs.named_buffers() if "correction" in name}
    for each in held.values():
        nn.init.normal_(each, std=0.3)
    spec, mapping = tmp_path / "small.mot", tmp_path / "small.yaml"
    width = case.config.get("hidden_size", 32)
    spec.write_text(f"model small {{\nwidth = {width}\nvocab = 61\nmodality text\n{case.spec}\n}}\n")
    lines = [f"  {theirs}: {ours}\n" for theirs, ours in {**case.base, **case.more}.items() if ours]
    mapping.write_text(f"architectures: [{case.architecture}]\ntensors:\n{''.join(lines)}")
    shapes = {name: tuple(each.shape) for name, each in case.shaped(held).items()}
    bijection = bijection_of(read_mapping(mapping), shapes, compile_ir(spec))
    ours: Any = motc.load(spec, dtype=torch.float64)
    ours.load_state_dict(parameters_of(bijection, case.shaped({name: each.detach() for name, each in held.items()})))
    ids = torch.randint(3, 61, (2, 11))
    with widened(torch.float64):
        expected = theirs(ids, use_cache=False).logits
    got = ours(ids, torch.zeros_like(ids)).logits
    close(got, expected, "logits")
    weights = torch.randn_like(got)
    learnt = {name: each for name, each in held.items() if each.requires_grad}
    gradients = torch.autograd.grad((expected * weights).sum(), list(learnt.values()))
    wanted = parameters_of(bijection, case.shaped(held | dict(zip(learnt, gradients, strict=True))))
    parameters = dict(ours.named_parameters())
    for name, gradient in zip(
        parameters, torch.autograd.grad((got * weights).sum(), list(parameters.values())), strict=True
    ):
        close(gradient, wanted[name].detach(), name)
