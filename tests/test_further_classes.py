"""Classes of transformers that the gallery has no spec of: what is read of a configuration computes the same in
float64, their tensors come back bit for bit, and what is written of them is read as the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

import motc
from motc.driver import check_spec, compile_ir
from motc.exporting.original import original
from motc.importing.architectures import BY_NAME
from motc.importing.further_mixtures import FURTHER_MIXTURES
from motc.importing.further_models import FURTHER_MODELS
from motc.importing.low_rank import LOW_RANK_MODELS
from motc.ir.identity import semantic_hash
from motc.ir.names import saved_shapes
from motc.source import SourceFile, SpecError
from motc.weights import bijection_of, parameters_of, read_mapping, tensors_of
from tests.originals import FEW_EXPERTS, YARN, as_parameters, described, small_original, widened

transformers = pytest.importorskip("transformers", minversion="5.0")

SLIDING, FULL = "sliding_attention", "full_attention"
GRANITE = {"embedding_multiplier": 12.0, "attention_multiplier": 0.25, "residual_multiplier": 0.22}

TABLES = (*FURTHER_MODELS, *FURTHER_MIXTURES, *LOW_RANK_MODELS)
MIXED = {"n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 3, "moe_intermediate_size": 20}
MIXED |= {"first_k_dense_replace": 1}
HEADS = {"num_key_value_heads": 4, "kv_lora_rank": 18, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 10}
BY_SCORES = {**YARN, "mscale": 0.9, "mscale_all_dim": 0.9}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "Granite": ("Granite", {**GRANITE, "logits_scaling": 8.0, "mlp_bias": True}),
    "OLMo": ("Olmo", {"clip_qkv": 0.7, "attention_bias": True}),
    "OLMo 2": ("Olmo2", {"attention_bias": True}),
    "OLMo 3": (
        "Olmo3",
        {"sliding_window": 3}
        | {
            "rope_parameters": {
                FULL: {"rope_type": "linear", "factor": 2.0, "rope_theta": 700.0},
                SLIDING: {"rope_type": "default", "rope_theta": 90.0},
            }
        },
    ),
    "EXAONE 4": ("Exaone4", {"sliding_window": 3, "sliding_window_pattern": 2}),
    "EXAONE 4 without windows": ("Exaone4", {"sliding_window": None, "layer_types": [FULL] * 4}),
    "Cohere 2": ("Cohere2", {"sliding_window": 3, "logit_scale": 0.5, "layer_types": [SLIDING, FULL, FULL, SLIDING]}),
    "StarCoder2": ("Starcoder2", {"sliding_window": 3}),
    "StarCoder2 without biases": ("Starcoder2", {"use_bias": False, "hidden_act": "relu"}),
    "StableLM": ("StableLm", {"use_qkv_bias": True}),
    "StableLM in parallel": ("StableLm", {"use_parallel_residual": True, "partial_rotary_factor": 0.5}),
    "Phi": ("Phi", {}),
    "Nemotron": ("Nemotron", {"head_dim": 12, "attention_bias": True, "mlp_bias": True}),
    "Arcee": ("Arcee", {"head_dim": 12, "mlp_bias": True}),
    "GLM": ("Glm", {"head_dim": 12}),
    "GLM 4": ("Glm4", {"head_dim": 12, "attention_bias": False}),
    "Helium": ("Helium", {"head_dim": 8, "attention_bias": True, "mlp_bias": True}),
    "Ministral": ("Ministral", {"sliding_window": 3, "head_dim": 12}),
    "Seed-OSS": ("SeedOss", {"head_dim": 12, "attention_out_bias": True}),
    "ERNIE-4.5": ("Ernie4_5", {"head_dim": 12, "use_bias": True}),
    "OLMoE": ("Olmoe", {"num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": True}),
    "FlexOlmo": ("FlexOlmo", {"num_experts": 4, "num_experts_per_tok": 2}),
    "Qwen2-MoE": ("Qwen2Moe", {**FEW_EXPERTS, "shared_expert_intermediate_size": 20, "mlp_only_layers": [1]}),
    "dots": (
        "Dots1",
        {"num_experts_per_tok": 2, "moe_intermediate_size": 24, "n_routed_experts": 4, "n_shared_experts": 2}
        | {"n_group": 2, "topk_group": 1, "head_dim": 12}
        | {"norm_topk_prob": True, "routed_scaling_factor": 2.5, "first_k_dense_replace": 1}
        | {"sliding_window": 3, "max_window_layers": 2},
    ),
    "AFMoE": (
        "Afmoe",
        {**FEW_EXPERTS, "num_shared_experts": 1, "route_scale": 2.5, "mup_enabled": True, "hidden_size": 64}
        | {"head_dim": 12, "sliding_window": 3},
    ),
    "ERNIE-4.5 with experts": (
        "Ernie4_5_Moe",
        {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 24, "moe_num_shared_experts": 1}
        | {"moe_layer_start_index": 1, "moe_layer_end_index": -1, "moe_layer_interval": 2},
    ),
    "DeepSeek-V2": ("DeepseekV2", {**MIXED, **HEADS, "q_lora_rank": None, "rope_scaling": BY_SCORES}),
    "DeepSeek-V2 in groups": (
        "DeepseekV2",
        {**MIXED, **HEADS, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2}
        | {"q_lora_rank": 14, "attention_bias": True, "routed_scaling_factor": 2.5},
    ),
    "DeepSeek-V3": (
        "DeepseekV3",
        {**MIXED, **HEADS, "q_lora_rank": 14, "n_group": 4, "topk_group": 2, "rope_scaling": BY_SCORES},
    ),
    "DeepSeek-V3 otherwise": (
        "DeepseekV3",
        {**MIXED, **HEADS, "q_lora_rank": None, "n_group": 1, "topk_group": 1, "rope_interleave": False}
        | {"rms_norm_eps": 1e-3, "rope_scaling": {**BY_SCORES, "mscale": 0.707}},
    ),
    "GLM-4.7-Flash": (
        "Glm4MoeLite",
        {**{key: value for key, value in MIXED.items() if key != "first_k_dense_replace"}, **HEADS}
        | {"q_lora_rank": 14, "mlp_layer_types": ["dense", "sparse", "dense", "sparse"]},
    ),
    "Youtu": ("Youtu", {**HEADS, "q_lora_rank": 14}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_same_logits_and_tensors(case: str) -> None:
    from transformers.core_model_loading import revert_weight_conversion

    name, keys = CASES[case]
    theirs = small_original(f"{name}ForCausalLM", **keys, attn_implementation="eager", experts_implementation="eager")
    as_parameters(theirs.eval(), torch.float64)
    for each, buffer in theirs.named_buffers():
        if "bias" in each:  # corrections of routers
            buffer.data = torch.randn_like(buffer)
    tensors = {name: each.detach() for name, each in revert_weight_conversion(theirs, theirs.state_dict()).items()}
    text = described(json.loads(theirs.config.to_json_string()) | {"architectures": [f"{name}ForCausalLM"]})
    spec = SourceFile("it.mot", text.spec("it", "It.", "config.json"))
    shapes = {name: tuple(each.shape) for name, each in tensors.items()}
    mapping = read_mapping(BY_NAME[f"{name}ForCausalLM"].mapping_file)
    assert f"{name}ForCausalLM" in mapping.architectures
    bijection = bijection_of(mapping, shapes, compile_ir(spec))
    ours: Any = motc.load(spec.text, dtype=torch.float64)
    ours.load_state_dict(parameters_of(bijection, tensors))
    ids = torch.randint(3, 61, (2, 11), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), widened(torch.float64):
        expected = theirs(ids, use_cache=False).logits
        got = ours(ids, torch.zeros_like(ids)).logits
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())
    back = tensors_of(bijection, ours.state_dict())
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[each], tensor) for each, tensor in tensors.items())
    out = original(theirs.config.model_type, check_spec(spec), compile_ir(spec), saved_shapes(compile_ir(spec)), {})
    assert out.shapes == {each: shape for each, shape in shapes.items() if each not in bijection.tied}
    written = json.loads(theirs.config_class(**out.configuration).to_json_string())
    assert semantic_hash(compile_ir(described(written).source("config.json"))) == semantic_hash(compile_ir(spec))


@pytest.mark.parametrize("name", [each.name for each in TABLES])
def test_a_missing_key_means_what_the_class_takes(name: str) -> None:
    keys = {"architectures": [name]}
    if name == "Dots1ForCausalLM":  # which has no sizes of its own
        keys |= {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2}
    if name == "DeepseekV2ForCausalLM":
        keys |= {"num_experts_per_tok": 2}
    config = json.loads(getattr(transformers, name).config_class(**keys).to_json_string(use_diff=False))
    short, whole = (compile_ir(described(each).source("config.json")) for each in (keys, {**config, **keys}))
    assert semantic_hash(short) == semantic_hash(whole)


def test_every_class_is_compared() -> None:
    assert {f"{name}ForCausalLM" for name, _ in CASES.values()} == {each.name for each in TABLES}


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("Olmoe", {"clip_qkv": 0.7}, "`clip_qkv` is 0.7"),
        ("Granite", {"logits_scaling": 0.0}, "`logits_scaling` is 0.0, and motc reads a number above 0"),
        ("Phi", {"qk_layernorm": True}, "`qk_layernorm` is True"),
        ("Qwen2Moe", {"use_sliding_window": True}, "`use_sliding_window` is True"),
        ("Exaone4", {"sliding_window_pattern": "LLLG"}, "`sliding_window_pattern` is 'LLLG'"),
    ],
)
def test_what_no_spec_says_is_refused(name: str, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        described({"architectures": [f"{name}ForCausalLM"], **keys})
    assert message in error.value.diagnostics[0].message
