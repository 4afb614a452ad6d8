"""Attention and feed-forward side by side."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import motc
from motc.diff import diff
from motc.driver import final_ir
from motc.ir.execution import Strategy
from motc.ir.identity import semantic_hash
from motc.ir.model import Model
from motc.schema import check
from motc.source import SourceFile, SpecError
from motc.syntax import read
from motc.validate.random_parameters import randomise
from tests.fuzz.properties import differ_alike_both_ways, forget_generated, generates_what_it_predicts, obeys_every_law
from tests.planted import broken, report
from tests.tracing import one_graph_serves

SPEC = """
model beside {
  width = 16, layers = 2, vocab = 16
  modality text, image
  attention { heads = 4, kv_heads = 2 }
  ffn { hidden = 12, FFN }
SAID
}
"""
NARROW = "tower a = text\n tower b = image { width = 8 }\n untie *\n"
CASES: dict[str, Strategy] = {
    "parallel = one_norm; untie attention, ffn, norm": "sorted",
    "parallel = one_norm; untie attention.q, ffn.up": "sorted",  # the stream in slots, and what both read sorted
    "parallel = one_norm; untie *": "blend",
    "parallel = two_norms; norm { placement = both }; untie attention.q, ffn": "sorted",
    "parallel = two_norms; norm { placement = sublayer_output }": "reference",
    "parallel = two_norms; norm { placement = sublayer_output }; untie attention.q, ffn.up": "sorted",
    f"{NARROW} parallel = one_norm": "sorted",
    "layer 1 { parallel = one_norm }; untie attention, ffn, norm in layer 0": "sorted",
    f"{NARROW} parallel = two_norms": "sorted",
}


def text(said: str, ffn: str = "") -> str:
    return SPEC.replace("SAID", "\n".join(f"  {line}" for line in said.split("; "))).replace("FFN", ffn)


def model(said: str, *, ffn: str = "", dense: bool = False, strategy: Strategy = "sorted") -> Model:
    return final_ir(check(read(SourceFile("a.mot", text(said, ffn)))), dense=dense, strategy=strategy)


@pytest.mark.laws
@pytest.mark.parametrize("said", CASES)
def test_every_law(said: str) -> None:
    strategy = CASES[said]
    obeys_every_law(model(said, strategy=strategy), model(said, dense=True, strategy=strategy), seed=2)
    differ_alike_both_ways(model(said), model("untie ffn"))


ADAPTIVE = """
model behind_one_adaptive_norm {
  width = 16, layers = 2
  modality text { features { size = 6 } }
  modality image {
    latent { channels = 2, patch = 2, objective = flow, time = none }
    condition { timestep { size = 8 }, number { size = 4, scale = 1000 } }
  }
  attention { heads = 4, bias = true, mask = full }
  ffn { kind = gelu_tanh, hidden = 12, bias = true }
  norm { kind = layer, weight = false, adaptive = image }
  parallel = one_norm
  SAID
}
"""
ADAPTIVE_CASES: dict[str, Strategy] = {
    "untie attention, ffn, norm": "sorted",
    "layer 0 { parallel = none }\n untie attention.q, norm in layer 0": "sorted",
    "tower words = text { width = 8, norm { adaptive = none } }\n untie *": "sorted",
    "tower words = text { norm { adaptive { by = image, parts = [scale, shift] } } }\n untie norm": "blend",
}


@pytest.mark.laws
@pytest.mark.parametrize("said", ADAPTIVE_CASES)
def test_adaptive_norms(said: str) -> None:
    found = report(ADAPTIVE.replace("SAID", said), strategy=ADAPTIVE_CASES[said])
    assert found.ok, found


@pytest.mark.laws
def test_a_gate_of_attention_alone_is_found() -> None:
    assert "reference outputs" in broken(
        ADAPTIVE.replace("SAID", ""), "return x + gated(self.down(", "return x + (lambda a, *_: a)(self.down("
    )


@pytest.mark.compiled
def test_one_graph_with_adaptive_norms() -> None:
    loaded: Any = motc.load(ADAPTIVE.replace("SAID", "layer 0 { parallel = none }\n untie attention, norm in layer 0"))
    loaded.compile(backend="eager", fullgraph=True)
    for words, side in ((3, 4), (5, 6)):
        ids = torch.tensor([[0] * words + [1] * (side // 2) ** 2] * 2)
        given: dict[str, Any] = {"features": {"text": torch.randn(2 * words, 6)}}
        given |= {"latents": {"image": torch.randn(2, 2, side, side)}}
        loaded.loss(ids, ids, conditions={"image": {"number": torch.rand(2)}}, **given).total.backward()


@pytest.mark.laws
def test_experts_beside_attention() -> None:
    said, ffn = "parallel = one_norm; untie attention, ffn, norm", "kind = moe, experts = 3, balance = 0.1"
    obeys_every_law(model(said, ffn=ffn), model(said, ffn=ffn, dense=True), seed=2)


@pytest.mark.parametrize("parallel", ["one_norm", "two_norms"])
def test_generating_is_the_forward_of_all_tokens(parallel: str) -> None:
    loaded: Any = motc.load(text(f"parallel = {parallel}; untie attention, ffn, norm"), dtype=torch.float64)
    randomise(loaded, torch.Generator().manual_seed(0))
    ids, modality_ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), torch.tensor([[0, 1, 0, 0], [1, 1, 0, 0]])
    generates_what_it_predicts(loaded, ids, modality_ids, count=6)
    forget_generated()


@pytest.mark.compiled
@pytest.mark.parametrize("said", ["parallel = one_norm; untie attention, ffn, norm", f"{NARROW} parallel = two_norms"])
def test_one_graph_serves_every_mixture(said: str) -> None:
    loaded: Any = motc.load(text(said))
    one_graph_serves(loaded, [[0, 1, 0, 1, 0]], [[1, 1, 1], [0, 0, 0], [1, 0, -1]], [[0, 0]], [[1, 1, 0, 0]] * 2)
    forget_generated()


def test_one_norm_is_attentions() -> None:
    names = [name for name in motc.load(text("parallel = one_norm; untie norm")).state_dict() if "norm" in name]
    assert [name for name in names if name.startswith("layers.1")] == [
        "layers.1.attention.norm.text.weight",
        "layers.1.attention.norm.image.weight",
    ]


def test_hashes_and_diffs_tell_them_apart() -> None:
    one, two, none = (model(f"parallel = {word}") for word in ("one_norm", "two_norms", "none"))
    assert len({semantic_hash(each) for each in (one, two, none)}) == 3
    assert semantic_hash(none) == semantic_hash(model(""))
    assert [edit.describe() for edit in diff(none, one)] == [
        "norm.placement: pre → attention pre, ffn none, -32 parameters, ±0 FLOPs a token",
        "parallel: none → one_norm, ±0 parameters, ±0 FLOPs a token",
    ]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("parallel = one_norm; norm { placement = both }", "MOT079 sublayers in parallel behind one_norm"),
        ("parallel = two_norms; norm { placement = post }", "MOT079 sublayers in parallel behind two_norms"),
        ("parallel = one_norm; untie ffn.norm", "attention.norm serves the feed-forward too"),
        ("parallel = both", "`parallel` should be none, one_norm or two_norms, not `both`"),
    ],
)
def test_what_is_refused(said: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        model(said)
