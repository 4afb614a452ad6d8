"""What is done to attention's scores: a scale, and a soft-cap in every kind of mask. Kernels: tests/test_kernels.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import motc
from codegen_templates.attention import weighed
from motc.diff import diff
from motc.driver import final_ir
from motc.ir.execution import Strategy
from motc.ir.identity import semantic_hash
from motc.ir.model import Model
from motc.schema import check
from motc.source import SourceFile, SpecError
from motc.syntax import read
from motc.validate.random_parameters import randomise
from tests.fuzz.properties import forget_generated, generates_what_it_predicts, obeys_every_law
from tests.tracing import one_graph_serves

SPEC = """
model capped {
  width = 16, layers = 1, vocab = 16
  modality text, image
  attention { heads = 4, kv_heads = 2, SCORES }
  ffn { kind = geglu_tanh, hidden = 12 }
  untie attention, ffn
}
"""
MASKS = {
    "causal": "sorted",
    "full": "sorted",
    "{ kind = prefix, prefix = image }": "sorted",  # two views
    "{ kind = blocks, blocks = [image, text] }": "blend",
    "{ bidirectional = image }": "reference",
}


def text(scores: str) -> str:
    return SPEC.replace("SCORES", scores)


def model(scores: str, *, dense: bool = False, strategy: Strategy = "sorted") -> Model:
    return final_ir(check(read(SourceFile("a.mot", text(scores)))), dense=dense, strategy=strategy)


@pytest.mark.laws
@pytest.mark.parametrize("mask", MASKS)
def test_every_law_with_a_soft_cap(mask: str) -> None:
    scores, strategy = f"scale = 0.3, softcap = 0.5, mask {'= ' * (mask[0] != '{')}{mask}", MASKS[mask]
    obeys_every_law(model(scores, strategy=strategy), model(scores, dense=True), seed=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("mask", ["causal", "{ kind = prefix, prefix = image }"])
def test_generating_with_a_soft_cap_is_the_forward_of_all_tokens(mask: str) -> None:
    loaded: Any = motc.load(text(f"softcap = 0.5, mask {'= ' * (mask[0] != '{')}{mask}"), dtype=torch.float64)
    randomise(loaded, torch.Generator().manual_seed(0))
    ids, modality_ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), torch.tensor([[0, 1, 0, 0], [1, 1, 0, 0]])
    generates_what_it_predicts(loaded, ids, modality_ids, count=6)
    forget_generated()


@pytest.mark.compiled
@pytest.mark.parametrize("mask", ["causal", "{ kind = prefix, prefix = image }"])
def test_one_graph_serves_every_mixture(mask: str) -> None:
    loaded: Any = motc.load(text(f"scale = 0.3, softcap = 0.5, mask {'= ' * (mask[0] != '{')}{mask}"))
    one_graph_serves(loaded, [[0, 1, 0, 1, 0]], [[1, 1, 1]] * 3, [[0, 0]], [[1, 1, 0, 0]] * 2)
    forget_generated()


def test_a_large_cap_is_none_and_a_scale_is_sdpas() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, heads, 5, 8, dtype=torch.float64) for heads in (4, 2, 2))
    for causal in (True, False):
        plain = weighed(q, k, v, None, causal, 0.3)
        torch.testing.assert_close(weighed(q, k, v, None, causal, 0.3, 1e6), plain, rtol=1e-9, atol=1e-9)
        assert not weighed(q, k, v, None, causal, 0.3, 0.1).allclose(plain)


def test_the_usual_scale_is_the_usual_model() -> None:
    assert semantic_hash(model("scale = 0.5")) == semantic_hash(model("")) != semantic_hash(model("scale = 0.25"))


def test_a_diff_tells_them() -> None:
    edits = [edit.describe().split(", ")[0] for edit in diff(model("softcap = 50"), model("scale = 0.25"))]
    assert edits == ["attention.scale: 1/sqrt(head_dim) → 0.25", "attention.softcap: 50 → none"]


@pytest.mark.parametrize("said, told", [("softcap = none", "softcap none, the model 50"), ("scale = 2", "scale 2")])
def test_towers_meet_in_one_attention(said: str, told: str) -> None:
    towered = text("softcap = 50").replace("untie", f"tower t = image {{ attention {{ {said} }} }}, untie")
    with pytest.raises(SpecError, match=f"MOT053 tower t has {told}"):
        final_ir(check(read(SourceFile("a.mot", towered))))
