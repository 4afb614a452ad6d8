"""Features: vectors that are given. Every law and strategy, gradients into them, what is refused, and generating."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import motc
from motc.cost import cost, flops_per_token
from motc.diff import diff
from motc.driver import compile_ir
from motc.ir.identity import semantic_hash
from motc.source import SourceFile, SpecError
from motc.validate.batches import random_batches
from tests.fuzz.properties import agrees_with_sorted
from tests.planted import report
from tests.texts import of_one_layer

PREFIX = """
model prefixed {
  width = 32, layers = 2, vocab = 40
  modality vit { features { size = 12 } }
  modality question { seen_targets = false }, answer
  attention { heads = 4, kv_heads = 1, mask { kind = prefix, prefix = [vit, question] } }
  ffn { hidden = 48 }
  embedding { tied = true }
}
"""
UNTIED = """
model untied {
  width = 32, layers = 2, vocab = 40
  modality text, speech
  modality vit {
    features { size = 12, projector { kind = gelu_tanh, hidden = 20, norm { kind = layer, eps = 1e-3 } } }
  }
  modality glyph { features { size = 32, projector = none } }
  attention { heads = 4, mask { bidirectional = vit } }
  ffn { hidden = 48 }
  untie *
}
"""
OWN = """
model own {
  width = 32, layers = 2
  modality vit { features { size = 12, projector { kind = relu2, bias = false, norm = rms } } }
  modality text { vocab = 40 }, speech { vocab = 24 }
  modality image { latent { channels = 3, patch = 2, weight = 0.5 } }
  tower und = vit, text
  tower gen = speech, image
  attention { heads = 4, mask { bidirectional = [vit, image] } }
  ffn { hidden = 48 }
  norm { placement = post }
  untie ffn, norm
}
"""
ROBOT = """
model robot {
  width = 32, layers = 2, vocab = 40
  modality vit { features { size = 12, projector { kind = quick_gelu } } }
  modality text
  modality state { features { size = 16, projector = none } }
  modality action { latent { channels = 5, patch = [1], objective = flow } }
  attention { heads = 4, head_dim = 8, mask { kind = blocks, blocks = [[vit, text], state, action] } }
  tower language = vit, text { ffn { hidden = 48 } }
  tower expert = state, action { width = 16, ffn { hidden = 24 } }
  untie *
}
"""
ALONE = """
model alone {
  width = 32, layers = 2, vocab = 40
  modality text
  modality vit { features { size = 12 } }
  modality state { features { size = 16, projector = none } }
  tower und = text
  tower eye = vit { width = 16 }
  tower body = state { width = 16 }
  attention { heads = 4, head_dim = 8, mask { bidirectional = vit } }
  untie *
}
"""
SPECS = {"prefix": PREFIX, "untied": UNTIED, "own": OWN, "robot": ROBOT}


def ir(text: str) -> Any:
    return compile_ir(SourceFile("features.mot", text))


@pytest.mark.laws
@pytest.mark.parametrize("name", SPECS)
def test_every_law_holds(name: str) -> None:
    verdict = report(of_one_layer(SPECS[name]))
    assert verdict.ok, verdict


@pytest.mark.parametrize("strategy, tolerance", [("blend", 1e-12), ("reference", 1e-12), ("grouped", 2e-4)])
@pytest.mark.parametrize("name", ["prefix", "untied", "own"])
def test_strategies_agree(name: str, strategy: Any, tolerance: float) -> None:
    agrees_with_sorted(of_one_layer(SPECS[name]), strategy, tolerance)


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Ids, modalities and features of `prefix`: three and one of them in two rows."""
    modality_ids = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 2, 2, 2, -1, -1]])
    ids = torch.randint(0, 40, modality_ids.shape, generator=torch.Generator().manual_seed(0))
    return ids, modality_ids, torch.randn(4, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_features_may_have_any_dimensions_and_ids_of_them_are_not_read() -> None:
    model: Any = motc.load(PREFIX, dtype=torch.float64)
    ids, modality_ids, features = batch()
    expected = model(ids, modality_ids, features={"vit": features}).logits
    other = torch.where(modality_ids == 0, 10**9, ids)
    assert model(other, modality_ids, features={"vit": features.view(2, 2, 12)}).logits.equal(expected)
    assert not expected[modality_ids == 0].any() and expected[modality_ids > 0].any(dim=-1).all()


def test_what_stands_beside_features_is_no_target() -> None:
    """The token after a feature is not predicted by it, and a feature is none, whatever its label."""
    model: Any = motc.load(PREFIX, dtype=torch.float64)
    ids, modality_ids, features = batch()
    labels = torch.where(modality_ids == 0, 7, ids)
    losses = model.loss(ids, modality_ids, features={"vit": features}, labels=labels)
    assert {name: int(n) for name, n in losses.weights.items()} == {"vit": 0, "question": 0, "answer": 7}
    assert losses.by_modality["vit"] == 0


def test_gradients_go_into_features_and_absent_ones_leave_zeros() -> None:
    model: Any = motc.load(UNTIED, dtype=torch.float64)
    ids, modality_ids = batch()[0], torch.tensor([[2, 2, 0, 0, 1, 1, 0, 0], [2, 0, 0, 1, 1, 1, 0, -1]])
    features = torch.randn(3, 12, dtype=torch.float64, requires_grad=True)
    model.loss(ids, modality_ids, features={"vit": features}).total.backward()
    assert features.grad is not None and features.grad.any(dim=1).all()
    model.zero_grad()
    model.loss(ids, modality_ids.clamp(max=1)).total.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if name.startswith("features.")}
    assert len(gradients) == 6
    assert all(gradient is not None and not gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("strategy", ["sorted", "blend"])
@pytest.mark.parametrize("text", [UNTIED, ALONE])
def test_every_parameter_has_a_gradient_whatever_is_absent(text: str, strategy: Any) -> None:
    """Those of the last layer too of which nothing is read: distributed training waits for all."""
    model: Any = motc.load(text, strategy=strategy)
    for each in random_batches(ir(text), torch.Generator().manual_seed(0)):
        model.zero_grad()
        features = {name: x.detach().float() for name, x in each.features.items()}
        model.loss(
            each.input_ids, each.modality_ids, features=features, document_ids=each.document_ids
        ).total.backward()
        assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize(
    ("features", "error", "said"),
    [
        (None, ValueError, "modality_ids have 4 tokens of vit, and there are features for 0"),
        ({"vit": torch.zeros(3, 12)}, ValueError, "modality_ids have 4 tokens of vit, and there are features for 3"),
        ({"vit": torch.zeros(4, 11)}, ValueError, "features of vit must be [tokens, 12], not [4, 11]"),
        ({"vit": torch.zeros(48)}, ValueError, "features of vit must be [tokens, 12], not [48]"),
        ({"vit": torch.zeros(4, 12).long()}, ValueError, "features of vit must be floating-point numbers"),
        ({"vit": torch.full((4, 12), torch.nan)}, ValueError, "48 of the numbers in the features of vit are infinite"),
        ({"answer": torch.zeros(4, 12)}, ValueError, "'answer' is no modality of features of this model: vit"),
        ({"vit": [0.0]}, TypeError, "features of vit must be a tensor, not list"),
        (torch.zeros(4, 12), TypeError, "features must be a dict of tensors by modality, not Tensor"),
    ],
)
def test_features_that_do_not_fit_are_told(features: Any, error: type[Exception], said: str) -> None:
    model: Any = motc.load(PREFIX)
    ids, modality_ids, _ = batch()
    for call in (model, model.loss):
        with pytest.raises(error, match=re.escape(said)):
            call(ids, modality_ids, features=features)


def test_a_model_of_latents_alone_takes_none() -> None:
    model: Any = motc.load(
        OWN.replace("features { size = 12, projector { kind = relu2, bias = false, norm = rms } }", "vocab = 5")
    )
    ids = torch.ones(1, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="'vit' is no modality of features of this model: it has none"):
        model(ids, ids, features={"vit": torch.zeros(1, 12)})


@pytest.mark.parametrize(
    ("features", "code", "said"),
    [
        (
            "features { size = 12, projector = none }",
            "MOT067",
            "features of 12 numbers do not fit a stream of width 32",
        ),
        ("features { size = 12, projector { hidden = 4 } }", "MOT067", "`hidden` is between two maps"),
        ("features { size = 12 }, vocab = 4", "MOT061", "`vit` is continuous and has a vocabulary"),
        ("features { size = 12 }, latent { channels = 1, patch = 1 }", "MOT061", "`vit` is of latents"),
        ("features { size = 12 }, weight = 2", "MOT065", "`weight` is about tokens that are predicted, and `vit`"),
        ("features { }", "MOT022", "`modalities.vit.features.size` is missing"),
        ("features { size = 12, projector { kind = swiglu } }", "MOT023", "should be linear, silu, gelu"),
    ],
)
def test_specs_that_do_not_fit_are_told(features: str, code: str, said: str) -> None:
    with pytest.raises(SpecError) as refused:
        motc.load(PREFIX.replace("features { size = 12 }", features))
    first = refused.value.diagnostics[0]
    assert first.code == code and said in first.message


def test_no_modality_but_features_is_refused() -> None:
    with pytest.raises(SpecError, match="MOT062"):
        ir("model m { width = 8; layers = 1; modality vit { features { size = 2 } }; attention { heads = 2 } }")


def test_names_shapes_and_counts() -> None:
    """No head, no final norm and no embedding of its own."""
    model: Any = motc.load(UNTIED, device="meta")
    names = {name: tuple(p.shape) for name, p in model.named_parameters() if not name.startswith("layers.")}
    assert names == {
        "embedding.text.weight": (40, 32),
        "embedding.speech.weight": (40, 32),
        "features.vit.norm.weight": (12,),
        "features.vit.norm.bias": (12,),
        "features.vit.hidden.weight": (20, 12),
        "features.vit.hidden.bias": (20,),
        "features.vit.out.weight": (32, 20),
        "features.vit.out.bias": (32,),
        "final_norm.text.weight": (32,),
        "final_norm.speech.weight": (32,),
        "head.text.weight": (40, 32),
        "head.speech.weight": (40, 32),
    }
    lowered = ir(UNTIED)
    assert cost(lowered).parameters == sum(p.numel() for p in model.parameters())
    flops = flops_per_token(lowered)
    assert flops["vit"] - flops["glyph"] == 2 * (12 * 20 + 20 * 32)
    assert flops["text"] - flops["glyph"] == 2 * 32 * 40


@pytest.mark.parametrize("other", SPECS)
def test_a_diff_adds_up(other: str) -> None:
    a, b = ir(UNTIED), ir(SPECS[other])
    edits = diff(a, b)
    assert sum(edit.parameters for edit in edits) == cost(b).parameters - cost(a).parameters
    assert bool(edits) == (semantic_hash(a) != semantic_hash(b))


def test_a_diff_tells_projectors() -> None:
    (edit,) = diff(ir(PREFIX), ir(PREFIX.replace("size = 12", "size = 12, projector { kind = gelu, bias = false }")))
    assert (edit.subject, edit.before, edit.after) == ("features", "12, linear", "12, gelu of 32 without biases")
    assert edit.modalities == ("vit",)


def greedy(model: Any, ids: Tensor, of: Tensor, features: dict[str, Tensor], count: int) -> list[int]:
    """Token by token, each from all that is before it, computed anew."""
    tokens: list[int] = []
    for _ in range(count):
        logits = model(ids, of, features=features).logits[0, -1]
        tokens.append(int(logits.argmax()))
        ids, of = torch.cat((ids, torch.tensor([[tokens[-1]]])), 1), torch.cat((of, of[:, -1:]), 1)
    return tokens


@pytest.mark.parametrize("strategy", ["sorted", "blend"])
@pytest.mark.parametrize("name", ["prefix", "untied"])
def test_a_prompt_with_features_is_continued(name: str, strategy: Any) -> None:
    model: Any = motc.load(SPECS[name], dtype=torch.float64, strategy=strategy)
    vit, text = model.modalities.index("vit"), model.modalities.index("answer" if name == "prefix" else "text")
    first = [model.modalities.index("question")] * 2 if name == "prefix" else [text] * 2
    of = torch.tensor([[vit, vit, *first, text], [-1, vit, *first, text]])
    ids = torch.randint(0, 40, of.shape, generator=torch.Generator().manual_seed(3))
    features = torch.randn(3, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    generated = model.generate(ids, of, features={"vit": features}, max_new_tokens=5, temperature=0)
    for row, (start, part) in enumerate(((0, features[:2]), (1, features[2:]))):
        expected = greedy(model, ids[row : row + 1, start:], of[row : row + 1, start:], {"vit": part}, 5)
        assert generated.input_ids[row].tolist() == expected
    documents = torch.tensor([[0] * 5 + [1] * 4])
    packed = [torch.cat((x[:1], x[1:, 1:]), 1) for x in (ids, of)]
    last = model.generate(*packed, document_ids=documents, features={"vit": features}, max_new_tokens=5, temperature=0)
    assert last.input_ids[0].tolist() == generated.input_ids[1].tolist()


@pytest.mark.parametrize(
    ("of", "how", "said"),
    [
        ([0, 1], {}, "there are features for 0"),
        ([1, 0], {"features": {"vit": torch.zeros(1, 12)}}, "a prompt ends with features of vit"),
        ([0, 1], {"spans": {"vit": {"end": 3}}}, "features of vit are given in a prompt and not generated"),
        ([1, 2], {"features": {"picture": torch.zeros(1, 12)}}, "'picture' is no modality of features"),
    ],
)
def test_other_prompts_are_refused(of: list[int], how: dict[str, Any], said: str) -> None:
    model: Any = motc.load(PREFIX)
    with pytest.raises(ValueError, match=said):
        model.generate(torch.zeros(1, 2, dtype=torch.int64), torch.tensor([of]), max_new_tokens=2, **how)


@pytest.fixture
def eager_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch.compile by its front half alone."""
    from tests.tracing import make_no_kernels

    torch._dynamo.reset()
    make_no_kernels(monkeypatch)
    yield
    torch._dynamo.reset()


def test_autocast_keeps_the_stream_and_projects_in_bfloat16() -> None:
    model: Any = motc.load(UNTIED)
    ids, modality_ids = batch()[0], torch.tensor([[2, 2, 0, 0, 1, 1, 0, 0], [2, 0, 0, 1, 1, 1, 0, -1]])
    features = torch.randn(3, 12, generator=torch.Generator().manual_seed(2))
    plain = model.loss(ids, modality_ids, features={"vit": features}).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = model.loss(ids, modality_ids, features={"vit": features}).total
    assert total.dtype == torch.float32 and 0 < abs(total - plain) < 0.05


@pytest.mark.compiled
def test_one_graph_serves_every_mixture(eager_compiler: None) -> None:
    """But for the last batch, in which documents share a row."""
    model: Any = motc.load(UNTIED, set={"layers": 1})
    model.compile()
    torch._dynamo.utils.counters.clear()
    stats = torch._dynamo.utils.counters["stats"]
    graphs = set()
    for each in random_batches(ir(UNTIED), torch.Generator().manual_seed(0))[::2]:
        model.loss(each.input_ids, each.modality_ids, features=each.features, document_ids=each.document_ids)
        graphs.add(stats["unique_graphs"])
    assert graphs == {3}, "a kind of layer, what embeds and what scores"
