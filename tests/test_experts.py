"""Mixtures of experts: routing by its definition, corners of the building block, laws, diagnostics, and the warning."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import motc
from codegen_templates.expert_products import expert_products
from codegen_templates.experts import MANY, Experts, best_first, combine, dispatch, expert_choice, imbalance, top_k
from codegen_templates.layout_sorted import sorted_layout
from codegen_templates.mask_causal import Causal
from motc.cli import main
from motc.cost import cost
from motc.driver import compile_ir
from motc.ir.execution import Strategy
from motc.loading import instantiate
from motc.source import SpecError
from tests.fuzz.properties import generates_what_it_predicts
from tests.planted import broken, report

MIXED = """
model mixed {
  width = 24, layers = 1
  modality text { vocab = 40 }, image { vocab = 24 }, speech { vocab = 20 }
  attention { heads = 4 }
  ffn { hidden = 20, kind = moe, experts = 4, routing = expert_choice, capacity_factor = 1.5, bias = true }
  tower pair = text, speech { ffn { routing = top_k } }
  untie attention, ffn, norm
  untie attention as {text, image} {speech}
}
"""
WIDE = """
model wide {
  width = 24, layers = 1, vocab = 40
  modality text, image, state, action
  attention { heads = 4, head_dim = 6 }
  ffn { hidden = 20, kind = geglu }
  norm { placement = sublayer_output }
  tower outer = text, action { ffn { kind = moe, experts = 3, routing = expert_choice } }
  tower narrow = image { width = 16, ffn { kind = moe, experts = 3, top_k = 1, expert = relu2, balance = 0 } }
  untie *
}
"""
POOLED = WIDE.replace("untie *", "untie *\n  untie attention as {text} {image} {state} {action}")
"""Two of whom experts choose together are pieces of their own."""
SHARED = """
model shared {
  width = 24, layers = 2, vocab = 40
  modality text, image
  attention { heads = 4 }
  ffn { hidden = 20, kind = moe, experts = 4, %s }
  %s
}
"""
SPECS = {
    "mixed": MIXED,
    "wide": WIDE,
    "top_k": SHARED % ("balance = 0.5", "untie attention, ffn, norm"),
    "expert_choice": SHARED % ("routing = expert_choice", ""),
    "shared_experts": SHARED % ("shared_experts = 2, top_k = 1, bias = true, expert = gelu", "untie ffn, norm"),
}
# Shared experts take every token, so they may be shared by other modalities than the routed ones: ERNIE-4.5-VL's are
# all modalities', or each its own beside experts of all; or they cross.
ERNIE = """
model ernie {
  width = 8, layers = 1, vocab = 40
  modality text, image, speech
  attention { heads = 2 }
  ffn { hidden = 6, kind = moe, experts = 3, top_k = 1, shared_experts = 1, bias = true }
  untie ffn, norm as %s
  untie ffn.shared.* as %s
}
"""
SHARED_APART = {
    "tied": ERNIE % ("{text} {image} {speech}", "{text, image, speech}"),
    "untied": ERNIE % ("{text, image, speech}", "{text} {image} {speech}"),
    "crossing": ERNIE % ("{text, image} {speech}", "{text} {image, speech}"),
    "up and down apart": ERNIE.replace("untie ffn.shared.*", "untie ffn.shared.down")
    % ("{text} {image, speech}", "{text, image} {speech}"),
}
MISTAKES = {
    "the largest probabilities of tokens": ("sort(dim=1, descending=True", "sort(dim=1, descending=False"),
    "the place of tokens": ("order = by_place[taken]", "order = taken"),
    "the number of tokens": ("each = -(-tokens * numerator", "each = (tokens * numerator"),
    "weights": ("weights / weights.sum(-1, keepdim=True)", "weights"),
    "where experts end": ("bucketize(each, expert", "bucketize(torch.where(each > 1, 9, each), expert"),
    "balance": ("(experts * k)", "experts"),
    "the pool": ("torch.cat(own)", "torch.cat(own[::-1])"),
    "each expert's bias": ("bias.repeat_interleave(x.shape[0] // experts, dim=0)", "bias[0]"),
}


BATCH = sorted_layout(torch.zeros(1, 1, dtype=torch.int64), None, (0,), (Causal(),), True)
"""A layout of a batch, and of no step of generating."""


@pytest.mark.laws
@pytest.mark.parametrize("name", SPECS)
def test_every_law_holds(name: str) -> None:
    verdict = report(SPECS[name])
    assert verdict.ok, verdict
    told = {law.name for law in verdict.laws}
    assert {"reference gradients", "single modality", "padding", "documents"} <= told
    assert ("twin gradients" in told) == (name not in ("mixed", "wide"))


@pytest.mark.laws
@pytest.mark.parametrize(
    "name, strategy", [*((name, "sorted") for name in SHARED_APART), ("tied", "reference"), ("crossing", "reference")]
)
def test_shared_experts_may_be_those_of_other_modalities(name: str, strategy: Strategy) -> None:
    verdict = report(SHARED_APART[name], strategy=strategy)
    assert verdict.ok, verdict
    told = {law.name for law in verdict.laws}
    assert {"reference outputs", "reference gradients"} <= told


@pytest.mark.parametrize("name", SHARED_APART)
def test_shared_experts_of_other_modalities_generate_what_a_whole_pass_predicts(name: str, tmp_path: Path) -> None:
    path = tmp_path / "ernie.mot"
    path.write_text(SHARED_APART[name])
    model: Any = instantiate(compile_ir(path), dtype=torch.float64)
    ids = torch.tensor([[3, 5, 7, 9]])
    mods = torch.tensor([[0, 1, 2, 0]])
    assert generates_what_it_predicts(model, ids, mods, count=5).input_ids.shape == (1, 5)


@pytest.mark.laws
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str) -> None:
    """By the reference; and where a single modality goes to the experts, by the model of its tower alone."""
    spec = {"the pool": POOLED, "the place of tokens": WIDE}.get(mistake, MIXED)
    laws = {"reference outputs", "reference gradients", *(() if spec != MIXED else ("single modality",))}
    assert broken(spec, *MISTAKES[mistake]) == laws


def test_expert_choice_takes_the_best_tokens() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    probabilities = logits.softmax(-1)
    places = torch.arange(4)
    routing = expert_choice(logits, (1, 1), places)
    assert routing.order.tolist() == [0, 2, 1, 3]
    torch.testing.assert_close(routing.weights, probabilities[[0, 2, 1, 3], [0, 0, 1, 1]])
    assert expert_choice(logits, (5, 4), places).order.tolist() == [0, 2, 3, 1, 3, 2], "three of four each, rounded up"


@pytest.mark.parametrize("tokens", [0, 1, 2, 7])
def test_few_tokens_and_none(tokens: int) -> None:
    torch.manual_seed(0)
    experts = Experts(4, 8, 6, bias=True).double()
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter)
    x, logits = torch.randn(tokens, 8).double(), torch.randn(tokens, 4).double()
    chosen = expert_choice(logits, (1, 1), torch.arange(tokens))
    assert combine(experts(dispatch(x, chosen)), chosen).shape == (tokens, 6)
    assert chosen.order.numel() == 4 * -(-tokens // 4)
    routed = top_k(logits, 2)
    actual = combine(experts(dispatch(x, routed), routed.ends), routed)
    assert routed.ends is not None and routed.order.numel() == 2 * tokens == int(routed.ends[-1])
    weights, best = logits.softmax(-1).topk(2)
    for token in range(tokens):
        share = weights[token] / weights[token].sum()
        pairs = zip(share, best[token].tolist(), strict=True)
        expected = sum(w * (experts.weight[e] @ x[token] + experts.bias[e]) for w, e in pairs)
        torch.testing.assert_close(actual[token], expected)
    assert float(imbalance(routed, BATCH)) == 0 if tokens == 0 else float(imbalance(routed, BATCH)) > 0


def test_balance_is_one_where_all_experts_are_equal_and_their_number_where_one_has_all() -> None:
    assert float(imbalance(top_k(10 * torch.eye(4).repeat(3, 1), 1), BATCH)) == pytest.approx(1.0)
    assert float(imbalance(top_k(torch.tensor([[50.0, 0, 0, 0]]).repeat(5, 1), 1), BATCH)) == pytest.approx(4.0)


def test_the_best_of_many_are_those_of_a_stable_sort() -> None:
    numbers = torch.randn(40, 3, 2 * MANY, generator=torch.Generator().manual_seed(0))
    ties = numbers.round()  # 0.0 and -0.0 among them
    ties[0, 0, 5:40], ties[1] = -torch.inf, 0.25
    assert (ties.signbit() & (ties == 0)).any()
    for worth in (numbers, ties, 1e-40 * numbers, numbers[..., : MANY - 1]):
        assert torch.equal(best_first(worth, 6), worth.argsort(dim=-1, descending=True, stable=True)[..., :6])


@pytest.mark.parametrize("bias", [False, True])
def test_grouped_products_give_what_the_plain_ones_do(bias: bool) -> None:
    torch.manual_seed(0)
    grouped = Experts(3, 16, 24, bias=bias)
    for parameter in grouped.parameters():
        torch.nn.init.normal_(parameter)
    plain = Experts(3, 16, 24, bias=bias).double()
    plain.load_state_dict(grouped.state_dict())
    x = torch.randn(12, 16)
    for ends in (None, torch.tensor([0, 5, 12], dtype=torch.int32)):
        actual, expected = grouped(x, ends), plain(x.double(), ends)
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)


def test_products_as_one_operation_are_those_of_each_expert() -> None:
    torch.manual_seed(0)
    x, weights = torch.randn(7, 4).double().requires_grad_(), torch.randn(4, 4, 3).double().requires_grad_()
    ends = torch.tensor([2, 2, 6, 7], dtype=torch.int32)  # the second has no token
    expected = torch.cat([part @ weight for part, weight in zip(x.split([2, 0, 4, 1]), weights, strict=True)])
    torch.testing.assert_close(expert_products(x, weights, ends), expected)
    torch.library.opcheck(torch.ops.motc.expert_products.default, (x, weights, ends))
    torch.library.opcheck(torch.ops.motc.expert_gradients.default, (x.detach(), expected.detach(), ends))
    assert torch.autograd.gradcheck(lambda x, weights: expert_products(x, weights, ends), (x, weights))


def test_padding_is_in_no_balance(tmp_path: Path) -> None:
    path = tmp_path / "top_k.mot"
    path.write_text(SPECS["top_k"])
    model: Any = motc.load(path, dtype=torch.float64)
    nothing = torch.full((2, 5), -1)
    assert model.loss(nothing.abs(), nothing).balance.item() == 0
    ids, modality_ids = torch.randint(0, 40, (2, 9)), torch.randint(0, 2, (2, 9))
    padded = torch.nn.functional.pad(modality_ids, (0, 4), value=-1)
    losses = model.loss(torch.nn.functional.pad(ids, (0, 4), value=7), padded)
    torch.testing.assert_close(losses.balance, model.loss(ids, modality_ids).balance, rtol=1e-12, atol=0)


WRONG = {
    "ffn { kind = moe }": ("MOT057", "how many"),
    "ffn { experts = 4 }": ("MOT057", "`experts` says nothing in a feed-forward of kind swiglu"),
    "ffn { kind = moe, experts = 4, routing = expert_choice, top_k = 2 }": ("MOT057", "`top_k` says nothing"),
    "ffn { kind = moe, experts = 4, capacity_factor = 2 }": ("MOT057", "`capacity_factor` says nothing"),
    "ffn { kind = moe, experts = 4, top_k = 5 }": ("MOT058", "5 of 4 experts"),
    "ffn { kind = moe, experts = 1 }": ("MOT058", "2 of 1 experts"),
    "ffn { kind = moe, experts = 2, routing = expert_choice, capacity_factor = 2.5 }": ("MOT058", "2.5 of 2"),
    "ffn { kind = moe, experts = 4, shared_experts = 1 }, tower a = text { ffn { expert = gelu } }, untie ffn, "
    "untie ffn.shared.* as {text, image}": ("MOT046", "ffn.shared.gate is shared by text and image"),
    "ffn { kind = moe, experts = 4, shared_experts = 1, expert = relu2 }, tower a = text { ffn { expert = gelu } }, "
    "untie ffn, untie ffn.shared.* as {text, image}": ("MOT046", "relu2"),
    "ffn { kind = moe, experts = 4 }, untie ffn.up": ("MOT059", "ffn.gate serves text, image and ffn.up serves text"),
    "ffn { kind = moe, experts = 4, routing = expert_choice }, untie ffn.router": (
        "MOT059",
        "ffn.router serves text and ffn.gate serves text, image",
    ),
    "ffn { kind = moe, experts = 4, routing = expert_choice, scores = sigmoid }": ("MOT057", "`scores` says nothing"),
    "ffn { kind = moe, experts = 4, routing = expert_choice, correction = true }": ("MOT057", "`correction` says"),
    "ffn { normalise = false }": ("MOT057", "kind swiglu"),
    "ffn { kind = moe, experts = 4, top_groups = 2 }": ("MOT057", "`top_groups` says nothing without `groups`"),
    "ffn { kind = moe, experts = 4, shared_gate = true }": ("MOT057", "without `shared_experts`"),
    "ffn { kind = moe, experts = 4, groups = 3 }": ("MOT058", "4 experts are not 3 groups"),
    "ffn { kind = moe, experts = 4, groups = 2, top_groups = 3 }": ("MOT058", "3 of 2 groups"),
    "ffn { kind = moe, experts = 4, groups = 4, top_groups = 2 }": ("MOT058", "no best two"),
    "ffn { kind = moe, experts = 4, groups = 2, top_groups = 1, top_k = 3 }": ("MOT058", "3 of 2 experts, those of"),
    "ffn { kind = moe, experts = 4 }, tower a = text { ffn { scores = sigmoid } }, untie ffn, "
    "untie ffn.router as {text, image}": ("MOT046", "ffn.router is shared by text and image"),
    "ffn { kind = moe, experts = 4, expret = gelu }": ("MOT021", "unknown key `expret`"),
    "tower a = text { ffn { kind = moe, experts = 4 } }": ("MOT046", "shared by text and image"),
    "tower a = text { ffn { experts = 4 } }, untie ffn": ("MOT057", "kind swiglu"),
    "ffn { kind = moe, experts = 4 }, tower a = text { ffn { kind = gelu, top_k = 1 } }, untie ffn": (
        "MOT057",
        "kind gelu",
    ),
}


@pytest.mark.parametrize("text", WRONG)
def test_mistakes_in_a_spec(text: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.mot"
    head = "width = 32; layers = 2; vocab = 40; modality text, image; attention { heads = 4 }"
    path.write_text(f"model wrong {{ {head}; {text.replace(', untie', '; untie').replace(', tower', '; tower')} }}")
    with pytest.raises(SpecError) as caught:
        compile_ir(path)
    code, message = WRONG[text]
    assert {diagnostic.code for diagnostic in caught.value.diagnostics} == {code}
    assert message in caught.value.diagnostics[0].message


def test_a_warning_where_experts_see_the_future(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "warned.mot"
    for routing, mask, warned in (
        ("expert_choice", "causal", {"MOT060"}),
        ("expert_choice", "prefix, prefix = image", {"MOT060", "MOT064"}),
        ("expert_choice", "blocks, blocks = [image, text]", {"MOT060", "MOT064"}),
        ("expert_choice", "full", {"MOT064"}),
        ("top_k", "causal", set[str]()),
    ):
        text = SPECS["expert_choice"].replace("expert_choice", routing)
        path.write_text(text.replace("heads = 4", f"heads = 4, mask {{ kind = {mask} }}"))
        assert main(["check", str(path)]) == 0
        told = capsys.readouterr()
        assert told.out == f"{path}: ok\n"
        assert set(re.findall(r"(MOT\d+) warning: ", told.err)) == warned


def test_a_token_costs_what_it_passes_through(tmp_path: Path) -> None:
    path = tmp_path / "shared.mot"
    path.write_text(SPECS["expert_choice"].replace("expert_choice", "expert_choice, capacity_factor = 1.5"))
    costs, one = cost(compile_ir(path)), 3 * 24 * 20
    rest = 40 * 24 * 2 + 24 + 2 * (4 * 24 * 24 + 2 * 24 + 4 * 24)
    assert costs.parameters == rest + 2 * 4 * one
    assert set(costs.active.values()) == {rest + 2 * one * 3 // 2}
    assert set(costs.flops_per_token.values()) == {2 * (40 * 24 + 2 * (4 * 24 * 24 + 4 * 24 + one * 3 // 2))}


def test_shared_experts_count_for_every_token_and_are_named(tmp_path: Path) -> None:
    path = tmp_path / "shared.mot"
    path.write_text(SPECS["top_k"])
    without = cost(compile_ir(path))
    path.write_text(SPECS["top_k"].replace("balance = 0.5", "balance = 0.5, shared_experts = 2"))
    costs, one = cost(compile_ir(path)), 3 * 24 * 20
    assert costs.parameters - without.parameters == 2 * 2 * 2 * one  # towers, layers, shared experts
    assert costs.active["text"] - without.active["text"] == 2 * 2 * one
    names = {name: tuple(p.shape) for name, p in motc.load(path, device="meta").named_parameters()}
    assert names["layers.1.ffn.shared.up.text.weight"] == (40, 24)
    assert names["layers.1.ffn.shared.down.image.weight"] == (24, 40)
    assert names["layers.1.ffn.down.image.weight"] == (4, 24, 20)


def test_down_projections_of_experts_start_smaller(tmp_path: Path) -> None:
    path = tmp_path / "shared.mot"
    path.write_text(
        SPECS["top_k"].replace("balance = 0.5", "shared_experts = 9, experts = 9").replace("experts = 4,", "")
    )
    deviations = {name: parameter.std().item() for name, parameter in motc.load(path).named_parameters()}
    for name in ("ffn.down", "ffn.shared.down"):
        assert deviations[f"layers.0.{name}.text.weight"] == pytest.approx(0.02 / 2, rel=0.1)
    for name in ("ffn.up", "ffn.shared.up", "ffn.router"):
        assert deviations[f"layers.0.{name}.text.weight"] == pytest.approx(0.02, rel=0.2)


def test_a_step_multiplies_by_no_experts_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = motc.load(
        "model apart { width = 16; layers = 1; vocab = 24; modality text, image; attention { heads = 2 }; "
        "ffn { kind = moe, experts = 4, top_k = 2, hidden = 16 }; untie ffn }"
    )
    sizes: list[int] = []
    product = torch.nn.functional.grouped_mm

    def seen(x: Tensor, *rest: Any, **more: Any) -> Tensor:
        sizes.append(x.shape[0])
        return product(x, *rest, **more)

    monkeypatch.setattr(torch.nn.functional, "grouped_mm", seen)
    ids = torch.tensor([[1, 2, 3]])
    model.generate(ids, torch.zeros_like(ids), max_new_tokens=3, temperature=0)
    assert sizes == [6] * 3 + [2] * 3 * 2, "gate, up and down of a prompt and two steps, in pairs with an expert"
