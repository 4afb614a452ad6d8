"""Norms of every form, in every place: the laws, their diffs, what a spec may say of them and what not."""

from __future__ import annotations

import pytest
import torch

import motc
from codegen_templates.norms import LayerNorm, NormByTower, RMSNorm
from motc.driver import final_ir
from motc.ir.execution import Strategy
from motc.ir.identity import semantic_hash
from motc.ir.model import Model
from motc.schema import check
from motc.source import SourceFile, SpecError
from motc.syntax import read
from tests.fuzz.properties import differ_alike_both_ways, obeys_every_law

SPEC = """
model normed {
  width = 16, layers = 1, vocab = 16
  modality text, image, speech
  attention { heads = 4, kv_heads = 2, HEADS }
  ffn { hidden = 12 }
  norm { NORM }
  tower gen = image { TOWER }
  untie attention, ffn, norm
}
"""
CASES: dict[str, tuple[str, str, str, Strategy]] = {
    "Gemma's": ("qk_norm = rms", "offset = 1, placement = both", "", "sorted"),
    "Cohere's": ("qk_norm { kind = layer, bias = false }", "kind = layer, bias = false", "", "blend"),
    "OLMo 2's": ("qk_norm { kind = rms, over = heads }", "placement = sublayer_output", "", "sorted"),
    "none of heads in a tower": (
        "qk_norm { kind = rms, over = heads, place = after_rope }",
        "weight = false",
        "attention { qk_norm = none }, norm { kind = layer, weight = true, offset = 1 }",
        "sorted",
    ),
    "all layer": (
        "qk_norm { kind = layer, over = heads, offset = 1 }",
        "kind = layer, offset = 1, placement = post",
        "norm { weight = false }",
        "reference",
    ),
    "another final one": (
        "qk_norm = rms",
        "embedding = true, final { kind = layer, weight = false, eps = 1e-3 }",
        "norm { final { offset = 1 } }",
        "sorted",
    ),
    "shared by heads": ("qk_norm { kind = layer, by_head = false, place = after_rope }", "", "", "sorted"),
    "apart": ("qk_norm { kind = rms, by_head = true }", "kind = layer, weight = false, bias = true", "", "sorted"),
}


def text(heads: str, norm: str, tower: str = "") -> str:
    return SPEC.replace("HEADS", heads).replace("NORM", norm).replace("TOWER", tower)


def model(case: tuple[str, str, str, Strategy], *, dense: bool = False) -> Model:
    checked = check(read(SourceFile("a.mot", text(*case[:3]))))
    return final_ir(checked, dense=True) if dense else final_ir(checked, strategy=case[3])


@pytest.mark.laws
@pytest.mark.parametrize("name", CASES)
def test_every_law(name: str) -> None:
    obeys_every_law(model(CASES[name]), model(CASES[name], dense=True), seed=1)


@pytest.mark.parametrize("name", CASES)
def test_a_diff_adds_up_both_ways(name: str) -> None:
    for other in ("Gemma's", "all layer"):
        differ_alike_both_ways(model(CASES[name]), model(CASES[other]))


def test_a_norm_without_parameters_has_one_copy_whatever_is_untied() -> None:
    untied = text("qk_norm = none", "weight = false").replace("tower gen = image { }", "")
    tied = untied.replace("untie attention, ffn, norm", "untie attention, ffn")
    one, other = (final_ir(check(read(SourceFile("a.mot", each)))) for each in (untied, tied))
    assert semantic_hash(one) == semantic_hash(other)
    assert not [name for name in motc.load(untied).state_dict() if "norm" in name]


FINAL = {
    "image alone has none": ("", "norm { final = false }", "untie norm"),
    "image alone has one": ("norm { placement = post }", "norm { final = true }", "untie *"),
    "narrow": ("", "width = 8, norm { final = false }", "untie *"),
}


@pytest.mark.laws
@pytest.mark.parametrize("said", FINAL)
@pytest.mark.parametrize("strategy", ["sorted", "blend"])
def test_a_final_norm_in_one_tower_only(said: str, strategy: Strategy) -> None:
    norm, tower, untied = FINAL[said]
    spec = text("bias = true", "", tower).replace("norm {  }", norm).replace("untie attention, ffn, norm", untied)
    checked = check(read(SourceFile("a.mot", spec)))
    one, dense = final_ir(checked, strategy=strategy), final_ir(checked, dense=True)
    obeys_every_law(one, dense, seed=1)
    plain = final_ir(check(read(SourceFile("a.mot", spec.replace(tower, tower.partition("norm")[0].rstrip(", "))))))
    differ_alike_both_ways(one, plain)


def test_a_final_norm_cannot_be_shared_with_those_who_have_none() -> None:
    spec = text("bias = true", "", "norm { final = false }").replace("untie attention, ffn, norm", "untie attention")
    with pytest.raises(SpecError, match=r"MOT046 final_norm is shared by text and image.*one of them has none"):
        final_ir(check(read(SourceFile("a.mot", spec))))


def test_weights_that_are_added_to_one_start_at_zero() -> None:
    loaded = motc.load(text("qk_norm = rms", "offset = 1, placement = both"))
    norms = {name: weight for name, weight in loaded.named_parameters() if "norm" in name}
    assert len(norms) == 3 * (4 + 2) + 3
    assert all(weight.eq(0).all() for weight in norms.values())


def test_an_offset_is_added_in_float32_and_the_cast_comes_last() -> None:
    torch.manual_seed(0)
    norm, x = RMSNorm(64, eps=1e-6, offset=1).bfloat16(), torch.randn(8, 64).bfloat16()
    torch.nn.init.normal_(norm.weight, std=0.1)
    wide = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6)
    expected = (wide * (1.0 + norm.weight.float())).bfloat16()
    assert norm(x).equal(expected)
    assert not (wide.bfloat16() * (1 + norm.weight)).equal(expected)
    by_tower = NormByTower({"a": norm, "b": RMSNorm(64, eps=1e-6, offset=1).bfloat16()})
    assert by_tower(x, torch.zeros(8, dtype=torch.int64)).equal(expected)


def test_a_norm_over_all_heads_is_that_of_a_flat_vector() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 5, 4, 8, dtype=torch.float64)
    for cls, flat in ((RMSNorm, torch.nn.functional.rms_norm), (LayerNorm, torch.nn.functional.layer_norm)):
        norm = cls(32, eps=1e-5, over_heads=True).double()
        torch.nn.init.normal_(norm.weight)
        expected = flat(x.flatten(-2), (32,), norm.weight, eps=1e-5)
        torch.testing.assert_close(norm(x).flatten(-2), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("heads", "norm", "tower", "told"),
    [
        ("qk_norm = rms", "bias = false", "", "MOT068 `bias` says nothing of a norm of kind rms"),
        ("qk_norm = rms", "offset = 1, weight = false", "", "MOT068 `offset` says nothing of a norm without weights"),
        ("qk_norm = rms", "", "norm { weight = false, offset = 1 }", "MOT068 `offset` says nothing"),
        ("qk_norm = rms", "final { kind = rms, bias = false }", "", "MOT068 `bias` says nothing"),
        ("qk_norm = rms", "kind = layer", "norm { final { weight = false, offset = 1 } }", "MOT068 `offset` says"),
        ("qk_norm = rms", "final { kind = batch }", "", "MOT023 `norm.final.kind` should be rms or layer, not `batch`"),
        ("qk_norm = rms", "final { kinds = rms }", "", "MOT021 unknown key `kinds`"),
        ("qk_norm { kind = rms, bias = true }", "", "", "MOT068 `bias` says nothing"),
        ("qk_norm { kind = rms, over = heads, by_head = true }", "", "", "MOT068 `by_head` says nothing"),
        (
            "qk_norm = rms",
            "",
            "attention { qk_norm { kind = rms, place = after_rope } }",
            "MOT053 tower gen has its qk_norm after_rope, another before_rope",
        ),
    ],
)
def test_what_says_nothing_is_refused(heads: str, norm: str, tower: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        final_ir(check(read(SourceFile("a.mot", text(heads, norm, tower)))))


def test_a_modality_without_a_norm_of_heads_shares_none() -> None:
    shared = text("qk_norm = rms", "", "attention { qk_norm = none }")
    shared = shared.replace("untie attention, ffn, norm", "untie attention as {text, image} {speech}")
    with pytest.raises(SpecError, match=r"MOT046 attention.q_norm is shared by text and image.*one of them has none"):
        final_ir(check(read(SourceFile("a.mot", shared))))


def test_a_section_is_merged_with_the_word_of_its_base() -> None:
    after = motc.load(text("qk_norm = rms", ""), set={"attention.qk_norm.place": "after_rope"})
    assert after.semantic_hash == motc.load(text("qk_norm { kind = rms, place = after_rope }", "")).semantic_hash
