"""What keys of a configuration mean: small models that transformers saves are the same after `motc import`, and what
no spec says is refused by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from motc.cli import main
from motc.source import SpecError
from tests.originals import CONFIGURATION, FEW_EXPERTS, YARN, described, small_original

pytest.importorskip("transformers", minversion="5.0")

GEMMA = {"hidden_size": 64, "head_dim": 16}
LLAMA_3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
SLIDING, FULL = "sliding_attention", "full_attention"

SAME: dict[str, tuple[str, dict[str, Any]]] = {
    "biases": ("Llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 12}),
    "linear": ("Llama", {"rope_parameters": {"rope_theta": 700.0, "rope_type": "linear", "factor": 2.0}}),
    "older keys": ("Llama", {"rope_theta": 700.0, "rope_scaling": {"type": "linear", "factor": 2.0}}),
    "dynamic": ("Llama", {"rope_parameters": {"rope_theta": 700.0, "rope_type": "dynamic", "factor": 2.0}}),
    "llama3": ("Llama", {"rope_parameters": {**LLAMA_3, "rope_theta": 700.0, "original_max_position_embeddings": 16}}),
    "yarn": ("Qwen2", {"rope_parameters": {**YARN, "rope_theta": 1e4}}),
    "more of yarn": (
        "Qwen3",
        {"rope_parameters": {**YARN, "rope_theta": 1e4, "beta_fast": 20, "attention_factor": 1.5, "truncate": False}}
        | {"head_dim": 8},
    ),
    "tied": ("Llama", {"tie_word_embeddings": True, "hidden_act": "gelu"}),
    "all heads": ("Llama", {"num_key_value_heads": None}),
    "a window": ("Mistral", {"sliding_window": 3}),
    "no window": ("Mistral", {"sliding_window": None}),
    "windows of the last layers": ("Qwen2", {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 2}),
    "windows off": ("Qwen2", {"sliding_window": 3}),
    "windows by layer": (
        "Qwen3",
        {"use_sliding_window": True, "sliding_window": 3, "layer_types": [FULL, SLIDING, SLIDING, FULL], "head_dim": 8}
        | {"attention_bias": True},
    ),
    "positions by layer": ("SmolLM3", {"no_rope_layers": [1, 0, 0, 1], "mlp_bias": True}),
    "windows without positions": ("SmolLM3", {"use_sliding_window": True, "sliding_window": 3}),
    "Gemma 1": ("Gemma", GEMMA),
    "Gemma 2's types": ("Gemma2", {**GEMMA, "sliding_window": 3, "layer_types": [FULL, SLIDING, SLIDING, SLIDING]}),
    "Gemma 2's scores": (
        "Gemma2",
        {**GEMMA, "attn_logit_softcapping": None, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 25}
        | {"sliding_window": 3, "attention_bias": True},
    ),
    "Gemma 3's thetas": (
        "Gemma3",
        {**GEMMA, "sliding_window": 3, "rope_theta": 500.0, "rope_local_base_freq": 50.0, "sliding_window_pattern": 3}
        | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    ),
    "Gemma 3's parameters": (
        "Gemma3",
        {**GEMMA, "sliding_window": 3, "layer_types": [FULL, FULL, FULL, SLIDING], "final_logit_softcapping": 4.0}
        | {"rope_parameters": {FULL: {"rope_theta": 500.0}, SLIDING: {"rope_theta": 50.0}}},
    ),
    "norms of heads": ("Cohere", {"use_qk_norm": True, "attention_bias": True, "logit_scale": 0.5}),
    "untied": ("Cohere", {"tie_word_embeddings": False, "rope_theta": 99.0}),
    "a part of each head": ("Phi3", {"partial_rotary_factor": 0.5, "sliding_window": 3}),
    "one after the other": (
        "GPTNeoX",
        {"use_parallel_residual": False, "attention_bias": False, "rotary_pct": 0.5, "hidden_act": "relu"}
        | {"num_key_value_heads": 4},
    ),
    "windows of a mixture": ("Mixtral", {"sliding_window": 3, "num_local_experts": 4, "head_dim": 12}),
    "layers without experts": (
        "Qwen3Moe",
        {**FEW_EXPERTS, "decoder_sparse_step": 2, "mlp_only_layers": [3], "head_dim": 8},
    ),
    "normalised": (
        "Qwen3Moe",
        {**FEW_EXPERTS, "norm_topk_prob": True, "head_dim": 8, "use_sliding_window": True} | {"sliding_window": 3},
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_logits(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, keys = SAME[case]
    small_original(f"{name}ForCausalLM", **keys).save_pretrained(tmp_path / "it")
    config = tmp_path / "it" / "config.json"
    forms = [json.loads(config.read_text())]
    if not {"rope_parameters", "layer_types"} & keys.keys():  # as earlier releases wrote it, who knew nothing of these
        forms.append({"architectures": [f"{name}ForCausalLM"], **CONFIGURATION, **keys})
    for form in forms:
        config.write_text(json.dumps(form))
        options = ["-o", str(tmp_path / "it.mot"), "--weights", str(tmp_path / "it.safetensors"), "--check", "13"]
        code = main(["import", str(tmp_path / "it"), *options, "--json"])
        told = json.loads(capsys.readouterr().out)
        assert code == 0, told
        assert told["difference"] <= 1e-5 * told["largest_logit"]


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a key": ("Llama", {"alibi": True}, "motc does not know what `alibi` does in LlamaForCausalLM"),
    "quantised": ("Llama", {"quantization_config": {"bits": 4}}, "does not know what `quantization_config` does"),
    "a window": ("Llama", {"sliding_window": 4096}, "does not know what `sliding_window` does"),
    "a layer type": ("Qwen2", {"layer_types": ["linear_attention"] * 4}, "`layer_types` is "),
    "longrope": ("Phi3", {"rope_scaling": {"type": "longrope"}}, "`rope_scaling.rope_type` is 'longrope'"),
    "mscale": ("Llama", {"rope_scaling": {**YARN, "mscale": 1.0}}, "`rope_scaling.mscale` is 1.0"),
    "no factor": ("Llama", {"rope_scaling": {"rope_type": "linear"}}, "`rope_scaling.factor` is None"),
    "a fraction": ("Llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor` is 0.5"),
    "a word": ("Llama", {"hidden_size": "32"}, "`hidden_size` is '32', and motc reads a whole number"),
    "a float": ("Llama", {"num_hidden_layers": 4.0}, "`num_hidden_layers` is 4.0, and motc reads a whole number"),
    "a bool": ("Llama", {"vocab_size": True}, "`vocab_size` is True, and motc reads a whole number"),
    "nothing": ("Llama", {"hidden_size": None}, "`hidden_size` is None, and motc reads a whole number"),
    "an activation": ("Llama", {"hidden_act": "mish"}, "`hidden_act` is 'mish', and motc reads silu or"),
    "a list": ("Llama", {"rope_scaling": [1]}, "`rope_scaling` is [1], and motc reads an object"),
    "an encoder": ("Llama", {"is_encoder_decoder": True}, "`is_encoder_decoder` is True"),
    "both ways": ("Gemma2", {"use_bidirectional_attention": True}, "`use_bidirectional_attention` is True"),
    "scores that are not capped": ("Gemma3", {"attn_logit_softcapping": 4.0}, "`attn_logit_softcapping` is 4.0"),
    "a class": ("Falcon", {}, "motc does not know FalconForCausalLM"),
    "too few layers": ("SmolLM3", {"no_rope_layers": [1, 0]}, "`no_rope_layers` is [1, 0], and motc reads 4 times 0"),
    "more layers than there may be": ("Qwen2", {"num_hidden_layers": 10**9}, "is 1000000000, and motc reads 1 to 4096"),
    "a scaling of the class's own": ("GptOss", {}, "`rope_scaling` is None, and motc reads an object"),
    "a scale": ("Gemma2", {"query_pre_attn_scalar": 0}, "`query_pre_attn_scalar` is 0, and motc reads a number above"),
    "jitter": ("Mixtral", {"router_jitter_noise": 0.1}, "`router_jitter_noise` is 0.1, and motc reads 0.0"),
}  # fmt: skip


def refusal(config: dict[str, Any]) -> str:
    with pytest.raises(SpecError) as error:
        described(config)
    (diagnostic,) = error.value.diagnostics
    assert diagnostic.code == "MOT103"
    assert diagnostic.message.startswith("config.json: ")
    return diagnostic.message


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_spec_says_is_refused(case: str) -> None:
    name, keys, message = REFUSED[case]
    assert message in refusal({"architectures": [f"{name}ForCausalLM"], **CONFIGURATION, **keys})


def test_parts_are_refused_by_their_whole_names() -> None:
    paligemma = {"architectures": ["PaliGemmaForConditionalGeneration"], "text_config": {"model_type": "gemma2"}}
    assert "`text_config.model_type` is 'gemma2'" in refusal(paligemma)
    emu = {"architectures": ["Emu3ForConditionalGeneration"], "text_config": {**CONFIGURATION, "alibi": True}}
    assert "`text_config.alibi`" in refusal(emu)
    emu["text_config"] = {"tie_word_embeddings": True}
    assert "`tie_word_embeddings` is False" in refusal({**emu, "tie_word_embeddings": False})
    assert "`vision_config` is 3" in refusal({"architectures": ["Gemma3ForConditionalGeneration"], "vision_config": 3})
    for wrong in ({}, {"architectures": []}, {"architectures": "LlamaForCausalLM"}, {"architectures": [1]}):
        assert "`architectures` is" in refusal(wrong)


def test_dropout_is_told() -> None:
    notes = described({"architectures": ["LlamaForCausalLM"], "attention_dropout": 0.5}).notes
    assert notes == ["`attention_dropout` = 0.5: motc has no dropout"]
