"""Norms and ends of models that nobody here wrote: OLMo's, Gemma's, Cohere's, Phi's and others."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import motc
from tests.originals import PARTS, agree, as_parameters, widened

transformers = pytest.importorskip("transformers")

QUERY_HEADS = 4
SIZES = {
    "vocab_size": 61,
    "hidden_size": 64,  # whose root Gemma has exactly, in float32
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": QUERY_HEADS,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attn_implementation": "eager",
    "pad_token_id": 60,  # whose embedding has no gradient
}
SPEC = """
model small {
  width = 64, layers = 2, vocab = 61
  modality text
  attention { heads = 4, ATTENTION }
  ffn { hidden = 80, FFN }
  norm { NORM }
  ENDS
}
"""
BEFORE = {"input_layernorm": "attention.norm", "post_attention_layernorm": "ffn.norm"}
AFTER = {"post_attention_layernorm": "attention.norm", "post_feedforward_layernorm": "ffn.norm"}
AROUND = {
    "input_layernorm": "attention.norm",
    "post_attention_layernorm": "attention.out_norm",
    "pre_feedforward_layernorm": "ffn.norm",
    "post_feedforward_layernorm": "ffn.out_norm",
}
GEMMA_SIZES = {
    "tie_word_embeddings": True,
    "head_dim": 16,
    "query_pre_attn_scalar": 25,
    "layer_types": ["full_attention"] * 2,
}
IDLE = ("attention.k.bias",)
"""What moves all of a query's scores alike, where it is not rotated."""
HEADS = {"self_attn.q_norm": "attention.q_norm", "self_attn.k_norm": "attention.k_norm"}


class Case(NamedTuple):
    """A class of transformers with a configuration, and what is ours: keys of sections, and names of groups."""

    architecture: str
    names: dict[str, str]
    config: Mapping[str, Any] = MappingProxyType({})
    attention: str = "kv_heads = 2"
    ffn: str = ""
    norm: str = "eps = 1e-6"
    ends: str = ""


GEMMA = {
    "ffn": "kind = geglu_tanh",
    "norm": "eps = 1e-6, offset = 1",
    "ends": "embedding { tied = true, scale = sqrt_width }",
}
GEMMA_2 = {**GEMMA, "norm": "eps = 1e-6, offset = 1, placement = both"}
WHOLE_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}

CASES = {
    "OLMo": Case("Olmo", BEFORE, norm="kind = layer, weight = false"),
    "OLMo 2": Case(
        "Olmo2",
        {**HEADS, **AFTER},
        attention="kv_heads = 2, qk_norm { kind = rms, over = heads }",
        norm="eps = 1e-6, placement = sublayer_output",
    ),
    "Nemotron": Case(
        "Nemotron",
        BEFORE,
        {"norm_eps": 1e-6, "rope_parameters": WHOLE_ROPE},
        ffn="kind = relu2",
        norm="kind = layer, offset = 1, eps = 1e-6",
    ),
    "Hunyuan": Case(
        "HunYuanDenseV1",
        {**BEFORE, "self_attn.query_layernorm": "attention.q_norm", "self_attn.key_layernorm": "attention.k_norm"},
        {"head_dim": 16},
        attention="kv_heads = 2, qk_norm { kind = rms, place = after_rope }",
    ),
    "Cohere": Case(
        "Cohere",
        {**HEADS, **BEFORE},
        {"layer_norm_eps": 1e-6, "use_qk_norm": True, "logit_scale": 0.3, "tie_word_embeddings": True},
        attention="kv_heads = 2, qk_norm = layer, rope { theta = 500000, pairing = interleaved }",
        norm="kind = layer, bias = false, eps = 1e-6",
        ends="parallel = one_norm, embedding { tied = true }, head { scale = 0.3 }",
    ),
    "Phi": Case(
        "Phi",
        {**BEFORE, "final_layernorm": "norm", "dense": "o_proj", "fc1": "up_proj", "fc2": "down_proj"},
        {"layer_norm_eps": 1e-6},
        attention="kv_heads = 2, bias = true, rope { fraction = 0.5 }",
        ffn="kind = gelu_tanh, bias = true",
        norm="kind = layer, eps = 1e-6",
        ends="parallel = one_norm, head { bias = true }",
    ),
    "GPT-NeoX": Case(
        "GPTNeoX",
        {
            "layers.0.attention": "layers.0.self_attn",
            "layers.1.attention": "layers.1.self_attn",
            **BEFORE,
            "gpt_neox.final_layer_norm": "model.norm",
            "gpt_neox.embed_in": "model.embed_tokens",
            "gpt_neox": "model",
            "dense_h_to_4h": "up_proj",
            "dense_4h_to_h": "down_proj",
            "dense": "o_proj",
        },
        {"layer_norm_eps": 1e-6, "num_key_value_heads": 4},
        attention="kv_heads = 4, bias = true, rope { fraction = 0.25 }",
        ffn="kind = gelu, bias = true",
        norm="kind = layer, eps = 1e-6",
        ends="parallel = two_norms",
    ),
    "Gemma": Case("Gemma", BEFORE, {"tie_word_embeddings": True, "head_dim": 16}, **GEMMA),
    "Gemma 2": Case(
        "Gemma2",
        AROUND,
        {**GEMMA_SIZES, "attn_logit_softcapping": 0.5, "final_logit_softcapping": 0.5},
        attention="kv_heads = 2, scale = 0.2, softcap = 0.5",
        **{**GEMMA_2, "ends": f"{GEMMA['ends']}, head {{ softcap = 0.5 }}"},
    ),
    "Gemma 3": Case(
        "Gemma3Text",
        {**HEADS, **AROUND},
        GEMMA_SIZES,
        attention="kv_heads = 2, scale = 0.2, qk_norm = rms, rope { theta = 1000000 }",
        **GEMMA_2,
    ),
}


def by_our_names(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """What is one tensor there and three here, GPT-NeoX's queries, keys and values of each head, is cut."""
    ours = {}
    for name, tensor in tensors.items():
        if "query_key_value" in name:
            cut = tensor.unflatten(0, (QUERY_HEADS, 3, -1)).unbind(1)
            parts = {
                name.replace("query_key_value", f"{part}_proj"): each.flatten(0, 1)
                for part, each in zip("qkv", cut, strict=True)
            }
        else:
            parts = {name: tensor}
        ours |= {renamed(part, names): each for part, each in parts.items()}
    return ours


def renamed(name: str, names: Mapping[str, str]) -> str:
    for theirs, ours in names.items():
        name = name.replace(theirs, ours)
    return name


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients(name: str) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    settings = getattr(transformers, f"{case.architecture}Config")(**{**SIZES, **case.config})
    original = getattr(transformers, f"{case.architecture.removesuffix('Text')}ForCausalLM")(settings).eval()
    as_parameters(original, torch.float64)
    for parameter in original.parameters():
        nn.init.normal_(parameter, std=0.3)
    spec = SPEC
    for section in ("attention", "ffn", "norm", "ends"):
        spec = spec.replace(section.upper(), getattr(case, section))
    ours: Any = motc.load(spec, dtype=torch.float64)
    names = {**case.names, **PARTS}
    theirs = by_our_names(dict(original.named_parameters()), names)
    own = dict(ours.named_parameters())
    assert {key: each.shape for key, each in theirs.items()} == {key: each.shape for key, each in own.items()}
    ours.load_state_dict(theirs)

    input_ids = torch.randint(0, 60, (2, 11))
    with widened(torch.float64):
        expected = original(input_ids, use_cache=False).logits
    logits = ours(input_ids, torch.zeros_like(input_ids)).logits
    agree(original, ours, expected, logits, lambda values: by_our_names(values, names), idle=IDLE)
