"""How tokens choose experts: sigmoids, corrections, groups, scales; routers and experts that are untied apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import motc
from codegen_templates.experts import combine, dispatch, routed
from codegen_templates.routers import CorrectedRouter, Router, update_corrections
from motc.cost import cost
from motc.driver import compile_ir
from motc.ir.execution import Strategy
from motc.ir.identity import semantic_hash
from motc.validate.random_parameters import randomise
from tests.fuzz.properties import generates_what_it_predicts
from tests.planted import broken, report

SPEC = """
model routed {
  width = 16, layers = 1
  modality text { vocab = 20 }, image { vocab = 12 }
  attention { heads = 2 }
  ffn { hidden = 12, kind = moe, %s }
  untie %s
}
"""
ALL = SPEC % (
    "experts = 9, scores = sigmoid, correction = true, routed_scale = 2.5, groups = 3, top_groups = 2, balance = 0.5, "
    "shared_experts = 2, shared_hidden = 5, shared_gate = true, router_bias = true",
    "ffn",
)
SPECS = {
    "all that there is": ALL,
    "probabilities as they are, of the best group": SPEC
    % ("experts = 6, normalise = false, groups = 2, top_groups = 1, group_score = best, balance = 0.5", "norm"),
    "routers of towers, and experts of all": SPEC
    % ("experts = 3, scores = sigmoid, correction = true, balance = 0.5", "ffn.router"),
    "routers of towers that choose plainly": SPEC % ("experts = 3, balance = 0.5", "ffn.router"),
    "one router, and experts of towers": SPEC
    % ("experts = 3, correction = true", "ffn; untie ffn.router as {text, image}"),
    "biases of plain routers, and clamped gates": SPEC
    % ("experts = 3, router_bias = true, expert = clamped_geglu, bias = true, balance = 0.5", "ffn.router"),
    "biases of routers whose experts choose": SPEC
    % ("experts = 3, routing = expert_choice, router_bias = true", "norm"),
    "shared experts' gates of towers": SPEC
    % ("experts = 3, shared_experts = 1, shared_gate = true", "ffn.shared.router"),
}
MISTAKES = {
    "corrections in weights": (
        "weights = scores.gather(-1, experts)",
        "weights = self.worth(scores).gather(-1, experts)",
    ),
    "groups": ("best.argsort(dim=-1, descending=True", "best.argsort(dim=-1, descending=False"),
    "the best two of a group": ("[..., : self.group_best]", ""),
    "adding up to 1": ("if self.normalised:", "if not self.normalised:"),
    "the share of shared experts": ("F.sigmoid(", "F.silu("),
}


@pytest.mark.laws
@pytest.mark.parametrize("name", SPECS)
def test_every_law_holds(name: str) -> None:
    verdict = report(SPECS[name])
    assert verdict.ok, verdict
    assert {"reference outputs", "reference gradients", "twin gradients"} <= {law.name for law in verdict.laws}


@pytest.mark.laws
@pytest.mark.parametrize("name", ["all that there is", "routers of towers, and experts of all"])
def test_every_law_holds_by_masks(name: str) -> None:
    strategy: Strategy = "reference"
    assert report(SPECS[name], strategy=strategy).ok


@pytest.mark.laws
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str) -> None:
    assert {"reference outputs", "reference gradients"} <= broken(ALL, *MISTAKES[mistake])


def test_of_equal_experts_and_of_equal_groups_it_is_the_first() -> None:
    router = Router(2, 6, top_k=3, groups=3, top_groups=2).double()
    torch.nn.init.zeros_(router.weight)
    assert router(torch.randn(4, 2).double()).experts.tolist() == [[0, 1, 2]] * 4


def test_an_expert_outside_of_the_chosen_groups_is_not_chosen_though_all_others_are_worth_less_than_nothing() -> None:
    router = CorrectedRouter(2, 4, top_k=2, sigmoid=True, groups=2, top_groups=1)
    torch.nn.init.zeros_(router.weight)
    router.correction.copy_(torch.tensor([-3.0, -4.0, -1.0, -9.0]))
    assert router(torch.randn(3, 2)).experts.tolist() == [[0, 1]] * 3


def test_scores_that_are_all_nothing_are_no_nan() -> None:
    router = CorrectedRouter(1, 3, top_k=2, sigmoid=True)
    torch.nn.init.constant_(router.weight, -1e4)
    assert router(torch.ones(2, 1)).weights.tolist() == [[0, 0]] * 2


def test_corrections_bring_experts_into_balance() -> None:
    torch.manual_seed(0)
    router = CorrectedRouter(8, 4, top_k=1, sigmoid=True)
    torch.nn.init.normal_(router.weight)
    router.weight.data[2] += 1.0
    x = torch.randn(500, 8) + 0.3
    before = router(x).experts.flatten().bincount(minlength=4)
    assert router.load.tolist() == before.tolist(), "it counts while it trains"
    assert before.max() > 180
    for step in range(200):  # by less and less, for one that stays as large goes on to and fro
        update_corrections(router, 0.01 * 0.97**step)
        assert int(router.load.sum()) == 0
        after = router(x).experts.flatten().bincount(minlength=4)
    assert after.max() < 135


def test_an_update_goes_by_the_choices_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    router = CorrectedRouter(8, 4, top_k=1)
    router.load.copy_(torch.tensor([4, 0, 2, 2]))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda load: load.add_(torch.tensor([0, 9, 0, 1])))
    update_corrections(router, 0.5)
    assert router.correction.tolist() == [0.5, -0.5, 0.5, 0.5]


def test_a_model_updates_its_corrections_and_keeps_them_exact() -> None:
    model: Any = motc.load(ALL, dtype="bfloat16")
    routers = routers_of(model)
    assert [name for name, _ in model.named_buffers() if "correction" in name] == [
        "layers.0.ffn.router.text.correction",
        "layers.0.ffn.router.image.correction",
    ]
    assert not any("load" in name for name in model.state_dict())
    ids, modality_ids = torch.randint(0, 12, (2, 9)), torch.randint(0, 2, (2, 9))
    with torch.no_grad():
        model(ids, modality_ids)
    model.eval()(ids, modality_ids)
    assert all(router.load.sum() == 0 for router in routers), "neither without gradients nor in eval"
    model.train().loss(ids, modality_ids).total.backward()
    assert sum(int(router.load.sum()) for router in routers) == 2 * 18
    model.update_corrections(0.001)
    stored = [router.correction.clone() for router in routers]
    assert all(set(each.abs().tolist()) <= {0.0, torch.tensor(0.001).item()} and each.any() for each in stored)
    model.float().bfloat16()
    assert all(torch.equal(router.correction, each) for router, each in zip(routers, stored, strict=True))
    assert all(router.correction.dtype == torch.float32 for router in routers)
    model.init_weights()
    assert not any(router.correction.any() for router in routers)


def test_a_model_without_memory_has_nothing_counted_once_it_has() -> None:
    model = motc.load(ALL, device="meta").to_empty(device="cpu")
    for router in routers_of(model):
        assert router.correction.dtype == torch.float32
        assert not router.load.any() and not router.correction.any()


def test_routers_that_correct_are_computed_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    router, plain = (Router(64, 4, top_k=2, wide=wide) for wide in (True, False))
    plain.load_state_dict(router.state_dict())
    x = torch.randn(5, 64)
    exact = router(x).probabilities
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(router(x).probabilities, exact)
        assert not torch.equal(plain(x).probabilities, exact)


@pytest.mark.compiled
def test_one_graph_that_counts() -> None:
    torch.manual_seed(0)
    torch._dynamo.reset()
    models: list[Any] = [motc.load(ALL) for _ in range(2)]
    model, plain = models
    model.compile(backend="eager", fullgraph=True)
    torch._dynamo.utils.counters.clear()
    for shares in (0.5, 0.0, 0.2, 1.0):
        modality_ids = (torch.rand(2, 7) < shares).long()
        ids = torch.randint(0, 12, (2, 7))
        expected = plain.loss(ids, modality_ids)
        losses = model.loss(ids, modality_ids)
        losses.total.backward()
        torch.testing.assert_close(losses.total, expected.total)
    frames = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for mine, theirs in zip(routers_of(model), routers_of(plain), strict=True):
        assert torch.equal(mine.load, theirs.load) and mine.load.any()
    model.update_corrections()
    model.loss(ids, modality_ids).total.backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == frames, "no graph more after an update"


@pytest.mark.parametrize("name", ["all that there is", "routers of towers, and experts of all"])
def test_generating_gives_what_a_whole_pass_predicts(name: str) -> None:
    torch.manual_seed(0)
    model: Any = motc.load(SPECS[name], dtype=torch.float64)
    randomise(model, torch.Generator().manual_seed(0))
    ids, modality_ids = torch.tensor([[3, 5, 7, 9]]), torch.tensor([[0, 1, 1, 0]])
    assert generates_what_it_predicts(model, ids, modality_ids, count=4).input_ids.shape == (1, 4)


def test_hashes_and_costs(tmp_path: Path) -> None:
    """What says nothing new is the same model; what says a size has its parameters."""
    plain, path = SPEC % ("experts = 6, shared_experts = 2", "ffn"), tmp_path / "spec.mot"

    def ir(keys: str) -> Any:
        path.write_text(plain.replace("shared_experts = 2", f"shared_experts = 2{keys}"))
        return compile_ir(path)

    same = ", scores = softmax, normalise = true, routed_scale = 1, correction = false, groups = 3, shared_hidden = 12"
    assert semantic_hash(ir(same)) == semantic_hash(ir(", top_k = 2")) == semantic_hash(ir(""))
    hashes = {semantic_hash(ir(f", {key}")) for key in ("scores = sigmoid", "normalise = false", "routed_scale = 2")}
    assert len(hashes | {semantic_hash(ir(""))}) == 4
    more = cost(ir(", shared_hidden = 20, shared_gate = true")).parameters - cost(ir("")).parameters
    assert more == 2 * (3 * 16 * 2 * (20 - 12) + 16)


def test_pairs_of_several_routers_come_back_to_their_tokens() -> None:
    torch.manual_seed(0)
    one, other = Router(4, 3, top_k=1), Router(4, 3, top_k=1)
    x, y = torch.randn(5, 4), torch.randn(2, 4)
    routing = routed(one(x), other(y))
    tokens = torch.cat([x, y])
    torch.testing.assert_close(combine(dispatch(tokens, routing), routing), tokens)


def routers_of(model: Any) -> list[Any]:
    """A model's own routers that correct, of which there is one at least."""
    routers = [module for module in model.modules() if type(module).__name__ == "CorrectedRouter"]
    assert routers
    return routers
