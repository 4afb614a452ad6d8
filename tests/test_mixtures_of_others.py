"""Mixtures of experts against layers nobody here wrote: Qwen2, Qwen3, DeepSeek-V3, GLM-4.5, ERNIE-4.5 and its VL.

Each layer's output, and the gradients of its input and of all parameters, in float64. Where these widen to float32,
they are asked to widen to float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import motc

transformers = pytest.importorskip("transformers")

SPEC = """
model small {
  width = 24, layers = 1, vocab = 5
  modality %s
  attention { heads = 2 }
  ffn { kind = moe, hidden = 12, experts = 8, top_k = 3, %s }
  %s
}
"""
SIZES = {"hidden_size": 24, "moe_intermediate_size": 12, "num_experts_per_tok": 3, "hidden_act": "silu"}
NAMES = {
    "gate.weight": "router.weight",
    "gate.e_score_correction_bias": "router.correction",
    "gate.moe_statics.e_score_correction_bias": "router.correction",
    "experts.down_proj": "down.weight",
    "shared_expert_gate.weight": "shared.router.weight",
    **{
        f"{shared}.{part}_proj.weight": f"shared.{part}.weight"
        for shared in ("shared_expert", "shared_experts")
        for part in ("gate", "up", "down")
    },
}
GROUPED = "scores = sigmoid, correction = true, groups = 4, top_groups = 2, shared_experts = 2"
SPECS = {
    "qwen2": ("normalise = false, shared_experts = 1, shared_hidden = 20, shared_gate = true", ""),
    "qwen2_normalised": ("shared_experts = 1, shared_hidden = 20, shared_gate = true", ""),
    "qwen3": ("normalise = false", ""),
    "qwen3_normalised": ("", ""),
    "olmoe": ("normalise = false", ""),
    "deepseek_v3": (f"{GROUPED}, routed_scale = 2.5", ""),
    "glm4": (f"{GROUPED}, normalise = false, routed_scale = 1.5", ""),
    "ernie": ("correction = true, shared_experts = 2", ""),
    "ernie_vl": (
        "correction = true, shared_experts = 2, shared_hidden = 12",
        "tower vision = image { ffn { hidden = 8 } }\n  untie ffn\n  untie ffn.shared.* as {text, image}",
    ),
}


def theirs(name: str) -> nn.Module:
    match name:
        case "qwen2" | "qwen2_normalised":
            from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeSparseMoeBlock as Block

            sizes = {"num_experts": 8, "shared_expert_intermediate_size": 20, "norm_topk_prob": name != "qwen2"}
            return Block(transformers.Qwen2MoeConfig(**SIZES, **sizes))
        case "qwen3" | "qwen3_normalised":
            from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock as Block

            return Block(transformers.Qwen3MoeConfig(**SIZES, num_experts=8, norm_topk_prob=name != "qwen3"))
        case "olmoe":
            from transformers.models.olmoe.modeling_olmoe import OlmoeSparseMoeBlock as Block

            return Block(transformers.OlmoeConfig(**SIZES, intermediate_size=12, num_experts=8, norm_topk_prob=False))
        case "deepseek_v3":
            from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE as Block

            sizes = {"n_routed_experts": 8, "n_group": 4, "topk_group": 2, "n_shared_experts": 2}
            return Block(transformers.DeepseekV3Config(**SIZES, **sizes, routed_scaling_factor=2.5))
        case "glm4":
            from transformers.models.glm4_moe.modeling_glm4_moe import Glm4MoeMoE as Block

            sizes = {"n_routed_experts": 8, "n_group": 4, "topk_group": 2, "n_shared_experts": 2}
            config = transformers.Glm4MoeConfig(**SIZES, **sizes, routed_scaling_factor=1.5, norm_topk_prob=False)
            return Block(config)
        case "ernie":
            from transformers.models.ernie4_5_moe.modeling_ernie4_5_moe import Ernie4_5_MoeSparseMoeBlock as Block

            return Block(transformers.Ernie4_5_MoeConfig(**ernie_sizes()))
        case "ernie_vl":
            from transformers.models.ernie4_5_vl_moe.configuration_ernie4_5_vl_moe import (
                Ernie4_5_VLMoeTextConfig as Config,
            )
            from transformers.models.ernie4_5_vl_moe.modeling_ernie4_5_vl_moe import Ernie4_5_VLMoeMoeBlock as Block

            return Block(Config(**{**ernie_sizes(), "moe_intermediate_size": [12, 8]}))
        case _:
            raise AssertionError(name)


def ernie_sizes() -> dict[str, Any]:
    return {
        "hidden_size": 24,
        "moe_intermediate_size": 12,
        "moe_num_experts": 8,
        "moe_k": 3,
        "moe_num_shared_experts": 2,
        "hidden_act": "silu",
        "use_bias": False,
    }


def renamed(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A parameter, or gradient, by our names within a feed-forward; their gate and up are stacked in one."""
    tower, _, rest = name.rpartition("_moe.")
    block = {"": "", "text": ".text", "vision": ".vision"}[tower]
    if rest == "experts.gate_up_proj":
        for part, half in zip(("gate", "up"), value.chunk(2, dim=1), strict=True):
            yield f"{part}{block}.weight", half
    else:
        group, _, kind = NAMES[rest].rpartition(".")
        yield f"{group}{block}.{kind}", value.squeeze() if kind == "correction" else value


@pytest.mark.parametrize("name", SPECS)
def test_outputs_and_gradients(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    keys, untied = SPECS[name]
    modalities = "text, image" if name == "ernie_vl" else "text"
    spec = tmp_path / "small.mot"
    spec.write_text(SPEC % (modalities, keys, untied))
    model: Any = motc.load(spec, dtype=torch.float64)
    ffn, block = model.layers[0].ffn, theirs(name).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.3)
        for key, buffer in block.state_dict().items():
            if "correction" in key:
                buffer.copy_(torch.randn(buffer.shape).mul(0.1))
    state = dict(pair for key, value in block.state_dict().items() for pair in renamed(key, value))
    ours = ffn.state_dict()
    assert {key: value.shape for key, value in ours.items() if not key.startswith("norm.")} == {
        key: value.shape for key, value in state.items()
    }
    ffn.load_state_dict({**ours, **state})

    modality_ids = torch.zeros(1, 11, dtype=torch.int64)
    if name == "ernie_vl":
        modality_ids[0, 6:] = 1
    x = torch.randn(1, 11, 24, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    with monkeypatch.context() as patch:
        for dtype in ("float32", "float"):
            patch.setattr(torch, dtype, torch.float64)
        patch.setattr(Tensor, "float", Tensor.double)
        normed = nn.functional.rms_norm(y, (24,), eps=1e-5)
        out = block(normed, modality_ids) if name == "ernie_vl" else block(normed)
        expected = y + (out[0] if isinstance(out, tuple) else out)
    given = ffn(x, model.layout(modality_ids))
    got = (given[0] if isinstance(given, tuple) else given).reshape(11, 24)
    torch.testing.assert_close(got, expected[0], rtol=1e-9, atol=1e-9)
    weights = torch.randn_like(got)
    (got * weights).sum().backward()
    (expected[0] * weights).sum().backward()
    assert y.grad is not None
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-9, atol=1e-9)
    parameters = dict(ffn.named_parameters())
    compared = 0
    for key, parameter in block.named_parameters():
        if parameter.grad is None:
            assert "correction" in key
            continue
        for our_key, gradient in renamed(key, parameter.grad):
            torch.testing.assert_close(parameters[our_key].grad, gradient, rtol=1e-9, atol=1e-9, msg=our_key)
            assert gradient.any(), our_key
            compared += 1
    assert compared == len(parameters) - 1, "all but the norm's weight, which they have elsewhere"
