"""A gate on what attention makes: its laws, and Qwen3-Next's attention layers, which nobody here wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import motc
from motc.cost import cost
from motc.driver import compile_ir
from motc.ir.execution import Strategy
from tests.originals import agree, as_parameters, our_name, widened
from tests.planted import broken, report

SPEC = """
model gated {
  width = 16, layers = 1
  modality text { vocab = 16 }, image { vocab = 8 }
  attention { heads = 2, head_dim = 16, gate = true, bias = true }
  ffn { hidden = 16 }
  %s
}
"""
SPECS = {
    "shared": SPEC % "",
    "apart": SPEC % "untie *",
    "gate alone": SPEC % "untie attention.gate",
    "one tower alone": SPEC.replace("gate = true, ", "")
    % "tower vision = image { attention { gate = true } }\n  untie attention.gate",
    "all but one tower": SPEC % "tower words = text { attention { gate = false } }\n  untie attention",
    "some layers and towers": SPEC.replace("gate = true, ", "").replace("layers = 1", "layers = 2")
    % "tower vision = image { attention = none }\n  untie *\n  layer 1 { attention { gate = true } }",
}
QWEN = """
model small {
  width = 48, layers = 2, vocab = 61
  modality text
  attention { heads = 4, kv_heads = 2, head_dim = 16, gate = true, qk_norm = rms, rope { fraction = 0.25 } }
  ffn { hidden = 80 }
  norm { eps = 1e-6, offset = 1 }
}
"""


@pytest.mark.laws
@pytest.mark.parametrize(
    "name, strategy",
    [
        *((name, "sorted") for name in SPECS),
        ("apart", "blend"),
        ("gate alone", "reference"),
        ("one tower alone", "blend"),
        ("one tower alone", "reference"),
    ],
)
def test_every_law_holds(name: str, strategy: Strategy) -> None:
    found = report(SPECS[name], strategy=strategy)
    assert found.ok, found
    assert {"reference outputs", "reference gradients"} <= {law.name for law in found.laws}


@pytest.mark.laws
def test_a_mistake_is_found() -> None:
    assert {"reference outputs", "reference gradients"} <= broken(SPECS["apart"], "F.sigmoid(", "torch.tanh(")


def test_it_costs_as_much_as_queries(tmp_path: Path) -> None:
    path = tmp_path / "spec.mot"
    path.write_text(SPECS["apart"])
    gated = cost(compile_ir(path))
    plain = cost(compile_ir(path, {"attention.gate": False}))
    assert gated.parameters - plain.parameters == 2 * (16 * 32 + 32)
    assert gated.flops_per_token["text"] - plain.flops_per_token["text"] == 2 * 16 * 32


def test_qwen3_next(tmp_path: Path) -> None:
    """Logits and all gradients in float64; its norms and its softmax, which widen to float32, stay in float64."""
    transformers = pytest.importorskip("transformers")
    config = transformers.Qwen3NextConfig(
        vocab_size=61,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
        layer_types=["full_attention"] * 2,
        mlp_only_layers=[0, 1],
        rms_norm_eps=1e-6,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    theirs = transformers.Qwen3NextForCausalLM(config).eval()
    as_parameters(theirs, torch.float64)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    spec = tmp_path / "small.mot"
    spec.write_text(QWEN)
    ours: Any = motc.load(spec, dtype=torch.float64)
    ours.load_state_dict(dict(renamed(dict(theirs.named_parameters()))))

    input_ids = torch.randint(0, 61, (2, 11))
    with widened(torch.float64):
        expected = theirs(input_ids, use_cache=False).logits
    got = ours(input_ids, torch.zeros_like(input_ids)).logits
    agree(theirs, ours, expected, got, renamed)


def renamed(theirs: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Their parameters, or gradients, by our names; each head's query is followed by its gate."""
    for name, value in theirs.items():
        if name.endswith("q_proj.weight"):
            stem = our_name(name).removesuffix("q.weight")
            for part, half in zip(("q", "gate"), value.view(4, 2, 16, 48).unbind(1), strict=True):
                yield f"{stem}{part}.weight", half.reshape(64, 48)
        else:
            yield our_name(name), value
