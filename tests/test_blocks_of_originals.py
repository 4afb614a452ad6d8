"""Norms and blocks of models that nobody here wrote: OLMo's, Nemotron's, Hunyuan's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

import motc
from tests.originals import as_parameters, widened

transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attn_implementation": "eager",
    "pad_token_id": 60,  # whose embedding has no gradient
}
SPEC = """
model small {
  width = 48, layers = 2, vocab = 61
  modality text
  attention { heads = 4, kv_heads = 2, ATTENTION }
  ffn { hidden = 80, FFN }
  norm { NORM }
}
"""
NAMES = {
    "model.embed_tokens": "embedding",
    "model.norm": "final_norm",
    "lm_head": "head",
    "self_attn.q_proj": "attention.q",
    "self_attn.k_proj": "attention.k",
    "self_attn.v_proj": "attention.v",
    "self_attn.o_proj": "attention.out",
    "mlp.gate_proj": "ffn.gate",
    "mlp.up_proj": "ffn.up",
    "mlp.down_proj": "ffn.down",
    "model.layers": "layers",
}
"""Parts of parameters' names and what they are in ours, but for norms."""
BEFORE = {"input_layernorm": "attention.norm", "post_attention_layernorm": "ffn.norm"}
AFTER = {"post_attention_layernorm": "attention.norm", "post_feedforward_layernorm": "ffn.norm"}
HEADS = {"self_attn.q_norm": "attention.q_norm", "self_attn.k_norm": "attention.k_norm"}

CASES: dict[str, tuple[str, dict[str, Any], tuple[str, str, str], dict[str, str]]] = {
    "OLMo": ("Olmo", {}, ("", "", "kind = layer, weight = false"), BEFORE),
    "OLMo 2": (
        "Olmo2",
        {},
        ("qk_norm { kind = rms, over = heads }", "", "eps = 1e-6, placement = sublayer_output"),
        {**HEADS, **AFTER},
    ),
    "Nemotron": (
        "Nemotron",
        {
            "norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
        },
        ("", "kind = relu2", "kind = layer, offset = 1, eps = 1e-6"),
        BEFORE,
    ),
    "Hunyuan": (
        "HunYuanDenseV1",
        {"head_dim": 12},
        ("qk_norm { kind = rms, place = after_rope }", "", "eps = 1e-6"),
        {**BEFORE, "self_attn.query_layernorm": "attention.q_norm", "self_attn.key_layernorm": "attention.k_norm"},
    ),
}


def renamed(name: str, names: Mapping[str, str]) -> str:
    for theirs, ours in names.items():
        name = name.replace(theirs, ours)
    return name


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients(name: str) -> None:
    architecture, config, (attention, ffn, norm), names = CASES[name]
    torch.manual_seed(0)
    settings = getattr(transformers, f"{architecture}Config")(**SIZES, **config)
    original = getattr(transformers, f"{architecture}ForCausalLM")(settings).eval()
    as_parameters(original, torch.float64)
    for parameter in original.parameters():
        nn.init.normal_(parameter, std=0.3)
    spec = SPEC.replace("ATTENTION", attention).replace("FFN", ffn).replace("NORM", norm)
    ours: Any = motc.load(spec, dtype=torch.float64)
    theirs = {renamed(key, {**names, **NAMES}): parameter for key, parameter in original.named_parameters()}
    own = dict(ours.named_parameters())
    assert {key: each.shape for key, each in theirs.items()} == {key: each.shape for key, each in own.items()}
    ours.load_state_dict(theirs)

    input_ids = torch.randint(0, 60, (2, 11))
    with widened(torch.float64):
        expected = original(input_ids, use_cache=False).logits
    logits = ours(input_ids, torch.zeros_like(input_ids)).logits
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (logits * weights).sum().backward()
    for key, parameter in theirs.items():
        scale = parameter.grad.abs().max()
        torch.testing.assert_close(own[key].grad / scale, parameter.grad / scale, rtol=1e-9, atol=1e-9, msg=key)
