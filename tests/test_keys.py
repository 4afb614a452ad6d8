"""Towers that have keys and values in some layers and no more, as words in the last layer of SD3."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import motc
from motc.driver import compile_ir
from motc.ir.attributes import layer_attributes
from motc.ir.execution import Strategy
from motc.source import SourceFile, SpecError
from tests.planted import broken, report

SPEC = """
model ends_early {
  width = 16, layers = 2
  modality text { features { size = 12 } }
  modality image {
    latent { channels = 3, patch = 2, objective = flow, time = none }
    condition { timestep { size = 8 }, vector { size = 6 } }
  }
  attention { heads = 2, kv_heads = 1, bias = true, mask = full, qk_norm = rms }
  ffn { kind = gelu_tanh, bias = true, hidden = 24 }
  norm { kind = layer, weight = false, eps = 1e-6, adaptive = image }
  layer 1 { tower text { attention = keys, ffn = none } }
  untie *
}
"""
TOKENS = """
model causal {
  width = 16, layers = 2, vocab = 9
  modality text, speech, image
  attention { heads = 2, sinks = true, gate = true }
  ffn { hidden = 24 }
  tower words = text, speech { width = 8 }
  layer 0 { tower words { attention = keys } }
  untie *
}
"""
SPECS = {
    "adaptive": SPEC,
    "tokens of another width, behind two norms": TOKENS.replace(
        "ffn { hidden", "norm { placement = both }\n  ffn { hidden"
    ),
    "behind one norm": TOKENS.replace("ffn { hidden", "parallel = one_norm\n  ffn { hidden"),
}


@pytest.mark.laws
@pytest.mark.parametrize("name, strategy", [*((name, "sorted") for name in SPECS), ("adaptive", "blend")])
def test_every_law_holds(name: str, strategy: Strategy) -> None:
    found = report(SPECS[name], strategy=strategy)
    assert found.ok, found
    assert {"reference gradients", "documents", "padding"} <= {law.name for law in found.laws}


@pytest.mark.laws
def test_a_mistake_is_found() -> None:
    nothing = "lambda x: x.new_zeros(*x.shape[:-1], 8)"  # what is added to words
    assert "reference outputs" in broken(TOKENS, nothing, nothing.replace("zeros", "ones"))


def test_what_it_has_and_costs() -> None:
    model = compile_ir(SourceFile("keys.mot", SPEC))
    layer = model.segments[-1].layer
    of_text = {leaf.path for leaf in layer.leaves() if leaf.block_of("text") is not None}
    groups = {"norm", "modulation", "k", "v", "k_norm"}
    assert of_text == {f"attention.{group}" for group in groups}
    attributes = layer_attributes(layer, model.modalities)["text"]
    assert attributes.keys_only and not attributes.asks and attributes.answers


def test_words_that_are_seen_stay_what_they_are() -> None:
    """Generated token by token, as in one forward."""
    model: Any = motc.load(TOKENS, dtype=torch.float64)
    ids, modality_ids = torch.randint(0, 9, (2, 6)), torch.tensor([[0, 2, 1, 0, 2, 2], [2, 0, 0, 1, 2, 0]])
    generated = model.generate(ids, modality_ids, max_new_tokens=4, temperature=0)
    whole = model(generated.input_ids, generated.modality_ids).logits
    assert torch.equal(whole[:, 5:-1].argmax(-1), generated.input_ids[:, 6:])


@pytest.mark.parametrize(
    "more, code, told",
    [
        ("layer 1 { tower image { attention = keys } }", "MOT087", "nobody has queries"),
        (
            "layer 0 { tower image { attention = keys } }\n layer 1 { tower image { attention = none } }",
            "MOT087",
            "see",
        ),
        ("layer 1 { tower text { attention { reads = image } } }", "MOT084", "reads others, and has no queries"),
        ("layer 1 { attention { kind = keys } }", "MOT023", "should be softmax or none"),
    ],
)
def test_what_does_not_go_together(more: str, code: str, told: str) -> None:
    with pytest.raises(SpecError, match=told) as refused:
        compile_ir(SourceFile("keys.mot", SPEC.replace("  untie", f"  {more}\n  untie")))
    assert {each.code for each in refused.value.diagnostics} == {code}


@pytest.mark.compiled
def test_one_graph() -> None:
    model: Any = motc.load(SPEC)
    model.compile(backend="eager", fullgraph=True)
    for words, side in ((3, 4), (5, 6)):
        modality_ids = torch.tensor([[0] * words + [1] * (side // 2) ** 2] * 2)
        given: dict[str, Any] = {"features": {"text": torch.randn(2 * words, 12)}}
        given |= {"latents": {"image": torch.randn(2, 3, side, side)}}
        given |= {"conditions": {"image": {"vector": torch.randn(2, 6)}}}
        model.loss(modality_ids, modality_ids, **given).total.backward()
