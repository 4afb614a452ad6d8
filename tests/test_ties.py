"""Experts and tokens of equal probability: one rule decides, in building block, reference and every strategy."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from codegen_templates.experts import Routing, expert_choice, top_k
from codegen_templates.sizes import mark_sizes
from motc.driver import compile_ir
from motc.ir.execution import Strategy
from motc.ir.model import Model
from motc.loading import instantiate
from motc.reference import Batch, ReferenceMoe, Trace, reference_forward
from motc.reference.experts import expert_choice as reference_expert_choice
from motc.reference.experts import top_k as reference_top_k
from motc.validate import reference_config, validate
from motc.validate.batches import random_batches, settled
from motc.validate.outputs import run
from motc.validate.random_parameters import randomise
from motc.validate.report import deviation

SPEC = """
model tied {
  width = 16, layers = 1, vocab = 9
  modality text, image, state, action
  attention { heads = 2, head_dim = 8 }
  ffn { hidden = 8%s
}
"""
POOLS = {
    "tokens choose": ", kind = moe, experts = 3, top_k = 2 }",
    "experts choose among all": ", kind = moe, experts = 3, routing = expert_choice }",
    "experts choose within blocks": """, kind = moe, experts = 3, routing = expert_choice, capacity_factor = 2 }
  untie ffn as {text, action} {image, state}""",
    "experts choose in one tower": """ }
  tower outer = text, action { ffn { kind = moe, experts = 3, routing = expert_choice } }
  untie ffn""",
    "experts choose where widths differ": """ }
  tower narrow = image { width = 8 }
  tower wide = text, state, action { ffn { kind = moe, experts = 3, routing = expert_choice } }
  untie *""",
}


def pairs(routing: Routing, experts: int) -> set[tuple[int, int]]:
    """Which token goes to which expert."""
    if routing.ends is None:
        chosen = routing.order.view(experts, -1)
        return {(token, expert) for expert in range(experts) for token in chosen[expert].tolist()}
    k, starts = routing.weights.shape[1], [0, *routing.ends.tolist()]
    return {(int(p) // k, e) for e in range(experts) for p in routing.order[starts[e] : starts[e + 1]]}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_the_building_block_and_the_reference_choose_alike(dtype: torch.dtype, seed: int) -> None:
    """Logits of few values, so that most decisions are between equals; tokens in another order than the batch's."""
    generator = torch.Generator().manual_seed(seed)
    for experts, per_token, tokens in ((2, 1, 9), (5, 2, 16), (4, 3, 33)):
        logits = torch.randint(0, 2, (tokens, experts), generator=generator).to(dtype)
        places = torch.randperm(3 * tokens, generator=generator)[:tokens]
        probabilities = logits.to(torch.promote_types(dtype, torch.float32)).softmax(-1)
        moe = ReferenceMoe(experts=experts, routing="top_k", per_token=Fraction(per_token), balance=0.0)
        by_experts = reference_expert_choice(moe, probabilities, places.tolist(), Trace())
        by_tokens = reference_top_k(moe, probabilities, torch.zeros_like(probabilities), Trace())
        chosen = pairs(expert_choice(logits, (per_token, 1), places), experts)
        assert chosen == {(token, expert) for token, expert, _ in by_experts}
        assert pairs(top_k(logits, per_token), experts) == {(token, expert) for token, expert, _ in by_tokens}


def test_expert_choice_traced_for_any_number_of_tokens_is_what_it_is_eager() -> None:
    torch._dynamo.reset()
    traced = torch.compile(expert_choice, fullgraph=True, backend="aot_eager")
    for tokens in (7, 12):
        logits, places = torch.rand(tokens, 3), torch.randperm(tokens)
        given = mark_sizes(logits.clone(), "stream"), (1, 1), mark_sizes(places.clone(), "stream")
        assert torch.equal(traced(*given).order, expert_choice(logits, (1, 1), places).order)
    torch._dynamo.reset()


def test_of_equal_tokens_the_first_in_the_batch_and_of_equal_experts_the_first() -> None:
    nothing = torch.zeros(4, 2)
    assert expert_choice(nothing, (1, 1), torch.tensor([7, 1, 9, 4])).order.tolist() == [1, 3, 1, 3]
    assert pairs(top_k(nothing, 1), 2) == {(token, 0) for token in range(4)}


def undecided(pool: str, folder: Path, strategy: Strategy, dtype: torch.dtype) -> tuple[Model, Any]:
    """A model whose routers find all experts equal for all tokens."""
    path = folder / "tied.mot"
    path.write_text(SPEC % POOLS[pool])
    model = compile_ir(path, strategy=strategy)
    module: Any = instantiate(model, dtype=torch.float64)
    randomise(module, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if ".router." in name:
                parameter.zero_()
    return model, module.to(dtype)


def logits_of(module: Any, batch: Batch) -> Tensor:
    given = {"position_ids": batch.position_ids, "document_ids": batch.document_ids}
    logits: Tensor = module(batch.input_ids, batch.modality_ids, **given).logits
    return logits


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("strategy", ["sorted", "reference"])
@pytest.mark.parametrize("pool", POOLS)
def test_a_model_in_which_nothing_but_ties_decides(
    pool: str, strategy: Strategy, dtype: torch.dtype, tmp_path: Path
) -> None:
    model, module = undecided(pool, tmp_path, strategy, dtype)
    config, parameters = reference_config(model), dict(module.named_parameters())
    for batch in random_batches(model, torch.Generator().manual_seed(1)):
        trace = Trace()
        expected = reference_forward(config, parameters, batch, trace)
        assert trace.hairs == 0
        assert deviation(logits_of(module, batch), expected) <= (1e-12 if dtype == torch.float64 else 2e-2)


def test_documents_whose_numbers_fall_come_in_the_batch_s_order(tmp_path: Path) -> None:
    """Rows of attention are in the order of documents' numbers, which here is not the batch's."""
    model, module = undecided("experts choose among all", tmp_path, "sorted", torch.float64)
    batch = random_batches(model, torch.Generator().manual_seed(1))[2]
    assert batch.document_ids is not None
    falling = replace(batch, document_ids=batch.document_ids.max() - batch.document_ids)
    assert deviation(logits_of(module, falling), logits_of(module, batch)) <= 1e-12


@pytest.mark.laws
def test_first_tokens_of_documents_tie_and_the_loss_noises_anew(tmp_path: Path) -> None:
    """The reference took the first by modality, the model the first in its stream, and only forward was looked at."""
    path = tmp_path / "drawn.mot"
    path.write_text("""
model random_spec {
  width = 16
  layers = 2
  modality text { vocab = 7 }
  modality image { latent { channels = 1, patch = 1, objective = ddpm } }
  modality speech { latent { channels = 1, patch = 1, objective = ddpm } }
  attention { heads = 4, kv_heads = 2, qk_norm = rms }
  ffn { kind = relu2, hidden = 12 }
  norm { placement = sublayer_output }
  tower front = text, image { ffn { kind = moe, experts = 3, routing = expert_choice } }
  untie ffn
}
""")
    sparse, dense = compile_ir(path), compile_ir(path, dense=True)
    modules = [instantiate(model, dtype=torch.float64) for model in (sparse, dense)]
    for seed in (1, 4):  # of which each once drew such a tie
        report = validate(sparse, dense, *modules, seed=seed)
        assert report.ok, report


def test_a_batch_that_is_drawn_again_has_labels_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are drawn again too: what was a latent, whose label may be anything, became a token with that label."""
    path = tmp_path / "drawn.mot"
    path.write_text("""
model random_spec {
  width = 16, layers = 1, vocab = 16
  modality text
  modality image { latent { channels = 3, patch = 1, objective = ddpm } }
  attention { heads = 2, rope { theta = 100 }, qk_norm = layer }
  ffn { kind = moe, experts = 5, expert = gelu, hidden = 5, bias = true }
}
""")
    model = compile_ir(path)
    module, told = instantiate(model, dtype=torch.float64), list[int]()

    def forward(config: object, parameters: object, batch: object, trace: Trace) -> None:
        """Says of every other batch that an expert was chosen by a hair."""
        told.append(len(told))
        trace.hairs += told[-1] % 2 == 0

    monkeypatch.setattr("motc.validate.batches.reference_forward", forward)
    monkeypatch.setattr("motc.validate.batches.reference_loss", lambda *_: None)
    generator = torch.Generator().manual_seed(0)
    for batch in random_batches(model, generator) * 4:
        run(module, settled(model, dict(module.named_parameters()), batch, generator))  # which checks the labels
    assert len(told) > 8


@pytest.mark.laws
def test_a_vocabulary_of_one_token_leaves_every_decision_to_ties(tmp_path: Path) -> None:
    """States are equal by mathematics, and drawing other ids changes none of them."""
    path = tmp_path / "one.mot"
    path.write_text("""
model random_spec {
  width = 16, layers = 3, vocab = 1
  modality text, image, speech
  attention { heads = 4, head_dim = 6, rope = none, qk_norm = rms, qk_norm_eps = 1e-3 }
  ffn { kind = moe, experts = 5, routing = expert_choice, hidden = 5 }
  norm { kind = layer, final = false }
  untie attention, attention.* as {text} {image} {speech} in layer 1
}
""")
    sparse, dense = compile_ir(path), compile_ir(path, dense=True)
    report = validate(sparse, dense, *(instantiate(model, dtype=torch.float64) for model in (sparse, dense)), seed=341)
    assert report.ok, report
