"""Keys and values that are read without gradient: by definition, in every strategy, and what it leaves as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import motc
from motc.driver import compile_ir
from motc.ir.execution import Strategy
from motc.ir.identity import semantic_hash
from motc.source import SpecError
from tests.planted import broken, report
from tests.texts import of_one_layer

SPEC = """
model reads {
  width = 16, layers = 2
  modality text { vocab = 16 }, image { vocab = 8 }, action { vocab = 8 }
  attention { heads = 2, mask { %s } }
  ffn { hidden = 16 }
  tower und = text, image
  %s
}
"""
CAUSAL = SPEC % ("bidirectional = image, detach { action = und }", "untie *")
SPECS = {
    "causal": CAUSAL,
    "blocks": SPEC % ("kind = blocks, blocks = [und, action], detach { action = und }", "untie attention"),
    "within a block": SPEC
    % ("kind = blocks, blocks = [und, action], detach { action = und, image = text }", "untie attention"),
    "itself": SPEC % ("detach { und = text }", ""),
}
MISTAKES = {
    "keys": ("torch.where(is_stopped, k.detach(), k)", "k"),
    "values": ("torch.where(is_stopped, v.detach(), v)", "v"),
    "who reads": ("each == stopped for each in detached", "each != stopped for each in detached"),
}


@pytest.mark.laws
@pytest.mark.parametrize(
    "name, strategy",
    [
        ("causal", "sorted"),
        ("causal", "blend"),
        ("blocks", "sorted"),
        ("within a block", "sorted"),
        ("blocks", "reference"),
        ("itself", "sorted"),
    ],
)
def test_every_law_holds(name: str, strategy: Strategy) -> None:
    text = SPECS[name] if name == "causal" else of_one_layer(SPECS[name])
    found = report(text, strategy=strategy)
    assert found.ok, found
    assert {"reference gradients", "twin gradients"} <= {law.name for law in found.laws}


@pytest.mark.laws
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found_by_gradients_alone(mistake: str) -> None:
    assert broken(of_one_layer(SPECS["itself"]), *MISTAKES[mistake]) == {"reference gradients", "twin gradients"}


@pytest.mark.parametrize("strategy", ["sorted", "grouped"])
def test_results_are_the_same_to_the_bit_and_gradients_are_not(strategy: Strategy) -> None:
    torch.manual_seed(0)
    model, plain = (motc.load(text, strategy=strategy) for text in (CAUSAL, without(CAUSAL)))
    ids, modality_ids = torch.randint(0, 8, (2, 9)), torch.randint(0, 3, (2, 9))
    logits = []
    for each in (model, plain):
        logits.append(each(ids, modality_ids).logits["action"])
        with torch.no_grad():
            assert torch.equal(each(ids, modality_ids).logits["action"], logits[-1])
        logits[-1][modality_ids == 2].square().sum().backward()
    assert torch.equal(*logits)
    for part, tower in (("k", "und"), ("v", "und"), ("k", "action"), ("q", "action")):
        mine, theirs = (each.get_parameter(f"layers.1.attention.{part}.{tower}.weight").grad for each in (model, plain))
        assert theirs.any()
        assert mine.any() == (tower == "action")


@pytest.mark.parametrize("name, calls", [("blocks", 2), ("within a block", 6), ("causal", 2), ("itself", 2)])
def test_how_often_attention_is_made(name: str, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of views whose tokens read alike each is made once; else all is made for each set of what is read so."""
    made, real = [], torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *of, **more: (made.append(0), real(*of, **more))[1]
    )
    model = motc.load(SPECS[name])
    ids, modality_ids = torch.zeros(2, 6, dtype=torch.int64), torch.tensor([[0, 0, 1, 1, 2, 2]] * 2)
    model(ids, modality_ids)
    assert len(made) == calls * 2
    made.clear()
    with torch.no_grad():
        model(ids, modality_ids)
    assert len(made) == (2 if "block" in name else 1) * 2


def test_a_loss_of_states_that_read_alone_reaches_nothing_that_is_read() -> None:
    torch.manual_seed(0)
    model = motc.load(CAUSAL)
    ids, modality_ids = torch.randint(0, 8, (2, 9)), torch.randint(0, 3, (2, 9))
    logits = model(ids, modality_ids).logits["action"]
    logits[modality_ids == 2].square().sum().backward()
    for name, parameter in model.named_parameters():
        has_gradient = parameter.grad is not None and bool(parameter.grad.any())
        assert has_gradient == (".action." in name), name


@pytest.mark.compiled
def test_one_graph() -> None:
    torch.manual_seed(0)
    torch._dynamo.reset()
    models: list[Any] = [motc.load(CAUSAL) for _ in range(2)]
    model, plain = models
    model.compile(backend="eager", fullgraph=True)
    torch._dynamo.utils.counters.clear()
    graphs = set()
    for length in (7, 9, 12):
        ids, modality_ids = torch.randint(0, 8, (2, length)), torch.randint(0, 3, (2, length))
        losses, expected = (each.loss(ids, modality_ids).total for each in (model, plain))
        losses.backward()
        torch.testing.assert_close(losses, expected)
        graphs.add(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert len(graphs) == 1


def test_generating_reads_as_ever() -> None:
    text = SPEC % ("detach { action = und }", "untie *")
    models: list[Any] = [motc.load(text), motc.load(without(text))]
    ids, modality_ids = torch.tensor([[3, 5, 7]]), torch.tensor([[0, 1, 2]])
    made, expected = (each.generate(ids, modality_ids, max_new_tokens=3, temperature=0.0) for each in models)
    assert made.input_ids.tolist() == expected.input_ids.tolist()


def test_what_says_nothing_is_the_same_model(tmp_path: Path) -> None:
    path = tmp_path / "spec.mot"

    def hash_of(said: str) -> str:
        path.write_text(SPEC % (f"kind = blocks, blocks = [und, action]{said}", ""))
        return semantic_hash(compile_ir(path))

    plain = hash_of("")
    assert hash_of(", detach { text = action }") == plain == hash_of(", detach { action = [] }")
    both = hash_of(", detach { action = [text, image] }")
    assert both == hash_of(", detach { action = und }") != plain


@pytest.mark.parametrize(
    "said, code, message",
    [
        ("detach { action = speech }", "MOT044", "no modality or tower `speech`"),
        ("detach { acton = text }", "MOT044", "no modality or tower `acton`"),
        (
            "detach { und = text, image = text }",
            "MOT054",
            "whom `image` detaches is said twice, by `und` and by `image`",
        ),
    ],
)
def test_mistakes(said: str, code: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.mot"
    path.write_text(SPEC % (said, ""))
    with pytest.raises(SpecError) as caught:
        compile_ir(path)
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.code, diagnostic.message) == (code, message)


LAYERS, IMAGES = 3, 32
SEEING = """
model sees {
  width = 32, layers = 3, vocab = 40
  modality vit { features { size = 12 } }, text
  attention { heads = 4, qk_norm = rms, mask { kind = causal, detach { text = vit } } }
  ffn { hidden = 64 }
  tower encoder = vit%s
  tower decoder = text
  untie attention, ffn, norm
}
"""
WITH_EXPERTS = SEEING % " { ffn { kind = moe, experts = 2, hidden = 64%s } }"


def backward(text: str, strategy: Strategy = "sorted") -> tuple[int, dict[str, torch.Tensor | None]]:
    """The products of a backward, and the gradients it makes, with those of what is given."""
    torch.manual_seed(0)
    model: Any = motc.load(text, strategy=strategy, dtype=torch.float64)
    ids, modality_ids = torch.randint(0, 40, (2, 32)), torch.tensor([[0] * 16 + [1] * 16] * 2)
    given = torch.randn(IMAGES, 12, dtype=torch.float64, requires_grad=True)
    total = model.loss(ids, modality_ids, features={"vit": given}).total
    with FlopCounterMode(display=False) as counter:
        total.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return counter.get_total_flops(), {**gradients, "given": given.grad}


@pytest.mark.parametrize("strategy, copies", [("sorted", 1), ("reference", 1), ("blend", 2)])
def test_of_features_that_all_read_detached_there_is_no_backward(strategy: Strategy, copies: int) -> None:
    products, gradients = backward(SEEING % "", strategy)
    with_gradient, _ = backward(without(SEEING % ""), strategy)
    maps, projector = 4 * 32 * 32 + 3 * 32 * 64, 12 * 32  # of which each number is 2 products a token in each direction
    assert with_gradient - products == copies * 4 * (LAYERS * IMAGES * maps) + 4 * IMAGES * projector
    for name, gradient in gradients.items():
        if name == "given":
            assert gradient is None
        else:
            assert gradient is not None, name
            assert gradient.any() == (".encoder." not in name and "features" not in name), name


def test_of_some_layers_that_are_read_with_gradient_those_behind_have_none() -> None:
    some = without(SEEING % "").replace(
        "  untie", "  layers 2 { attention { mask { kind = causal, detach { text = vit } } } }\n  untie"
    )
    products, gradients = backward(some)
    maps = 4 * 32 * 32 + 3 * 32 * 64
    assert backward(without(SEEING % ""))[0] - products == 4 * IMAGES * maps
    given = gradients["given"]
    assert given is not None and given.any()
    for layer in range(LAYERS):
        key = gradients[f"layers.{layer}.attention.k.encoder.weight"]
        assert key is not None and key.any() == (layer < 2)
    assert (ffn := gradients["layers.0.ffn.down.encoder.weight"]) is not None and ffn.any()


def test_experts_that_are_kept_in_balance_have_their_gradient() -> None:
    for balance in ("", ", balance = 0"):
        _, gradients = backward(WITH_EXPERTS % balance)
        router, given = gradients["layers.2.ffn.router.encoder.weight"], gradients["given"]
        assert router is not None and router.any() == (not balance)
        assert (given is not None) == (not balance)


@pytest.mark.laws
def test_two_widths_have_the_gradients_of_one_tower_alone() -> None:
    narrow = SEEING % " { width = 16 }"
    products, gradients = backward(narrow)
    assert products < backward(without(narrow))[0]
    report_of = report(narrow)
    assert report_of.ok, report_of
    assert all(gradient is not None for name, gradient in gradients.items() if name != "given")


def without(text: str) -> str:
    """The spec that detaches nothing."""
    start = text.index("detach")
    return text[:start] + text[text.index("}", start) + 1 :]
