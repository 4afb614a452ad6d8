"""Tokens that attend to vectors without layers of their own, and gates that start closed: Llama 3.2 Vision."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import motc
from motc.cost.parameters import total_parameters
from motc.driver import compile_ir
from motc.ir.execution import Strategy
from motc.ir.identity import semantic_hash
from motc.source import SpecError
from motc.weights import bijection_of, parameters_of, tensors_of
from tests.originals import GALLERY, as_parameters, widened
from tests.planted import broken, report
from tests.published import LLAMA_VISION

SPEC = """
model vision {
  width = 32, layers = 4, vocab = 48
  modality image { features { size = 24 }, positions { kind = same, advance = 0 } }
  modality text
  attention { heads = 4, kv_heads = 2, rope { theta = 500 } }
  ffn { hidden = 48 }
  norm { eps = 1e-5 }
  tower images = image { attention = none, ffn = none }
  tower language = text
  layers 1..3 step 2 {
    attention { qk_norm = rms%s }
    tower language { attention { cross = image, out_gate = tanh }, ffn { out_gate = tanh } }
  }
  untie *
}
"""
CAUSAL, FULL = SPEC % "", SPEC % ", mask = full"
IMAGE, TEXT, MARK, VOCAB = 0, 1, 2, 40
SPECS = {
    "causal": CAUSAL,
    "full": FULL,
    "detached": SPEC % ", mask { detach { text = image } }",
    "behind, with a bias": (SPEC % ", bias = true, gate = true, sinks = true").replace(
        "eps", "kind = layer, placement = sublayer_output, eps"
    ),
    "layers of their own besides": CAUSAL.replace("attention = none, ffn = none", "attention = none"),
    "reading in a layer besides": CAUSAL.replace("attention = none, ffn", "ffn")
    .replace("tower language {", "tower images { attention = none }, tower language {")
    .replace("  untie", "  layer 2 { tower language { attention { reads = image } } }\n  untie"),
    "two that attend": CAUSAL.replace("modality text", "modality text, speech").replace("= text\n", "= text, speech\n"),
}


def of_three_layers(text: str) -> str:
    """A spec without the last of its layers, which is as the second is: one that crosses, between two that do not."""
    return text.replace("layers = 4", "layers = 3").replace("layers 1..3 step 2", "layer 1")


@pytest.mark.laws
@pytest.mark.parametrize(
    "name, strategy",
    [*((name, "sorted") for name in SPECS), ("causal", "blend")],
)
def test_every_law_holds(name: str, strategy: Strategy) -> None:
    found = report(of_three_layers(SPECS[name]), strategy=strategy)
    assert found.ok, found
    assert {"reference gradients", "documents", "padding"} <= {law.name for law in found.laws}


@pytest.mark.laws
@pytest.mark.parametrize(
    "right, wrong",
    [
        ("torch.tanh(self.weight) * x", "torch.sigmoid(self.weight) * x"),
        ("torch.where(found.flatten()[layout.order][:, None], x, 0)", "x"),
        ("alone & torch.isin(", "alone & ~torch.isin("),
    ],
)
def test_a_mistake_is_found(right: str, wrong: str) -> None:
    assert "reference outputs" in broken(of_three_layers(CAUSAL), right, wrong)


def ids_of(*rows: str) -> tuple[Tensor, Tensor]:
    """Ids and modalities of rows such as `iitt`."""
    modality_ids = torch.tensor([[{"i": IMAGE, "t": TEXT, "m": MARK, ".": -1}[each] for each in row] for row in rows])
    return torch.randint(1, VOCAB, modality_ids.shape), modality_ids  # 0 is the original's padding


SCALING = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
SMALL = {
    "width": 32,
    "layers": 9,
    "modalities.text.vocab": VOCAB,
    "modalities.image.features.size": 24,
    "attention.heads": 4,
    "attention.kv_heads": 2,
    "ffn.hidden": 48,
}


def mllama(**sizes: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    kind = transformers.MllamaForCausalLM
    config = transformers.models.mllama.configuration_mllama.MllamaTextConfig(
        rope_parameters=SCALING, rms_norm_eps=1e-5, attn_implementation="eager", **sizes
    )
    return kind(config).eval()


def small() -> Any:
    torch.manual_seed(0)
    model = mllama(
        vocab_size=VOCAB,
        hidden_size=32,
        num_hidden_layers=9,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        cross_attention_layers=[3, 8],
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    as_parameters(model, torch.float64)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def tensors(theirs: Any, projector: nn.Linear, of: Callable[[nn.Parameter], Tensor]) -> dict[str, Tensor]:
    """What a checkpoint with images has of the two, by its names."""
    language = {f"language_model.{name}": of(each) for name, each in theirs.named_parameters()}
    return language | {f"multi_modal_projector.{name}": of(each) for name, each in projector.named_parameters()}


class Pair:
    """The original and the gallery's spec, both small, with the same parameters, and what is before the original."""

    def __init__(self) -> None:
        self.theirs, self.ours = small(), motc.load(GALLERY / "llama_3_2_vision_11b.mot", set=SMALL, dtype="float64")
        self.projector = nn.Linear(24, 32, dtype=torch.float64)
        given = tensors(self.theirs, self.projector, lambda each: each.detach())
        shapes = {name: tuple(each.shape) for name, each in given.items()}
        model = compile_ir(GALLERY / "llama_3_2_vision_11b.mot", overrides=SMALL)
        self.bijection = bijection_of(LLAMA_VISION.weights, shapes, model)
        parameters = parameters_of(self.bijection, given)
        self.ours.load_state_dict(parameters)
        back = tensors_of(self.bijection, parameters)
        assert back.keys() == given.keys()
        assert all(torch.equal(back[name], given[name]) for name in given)

    def said(self, ids: Tensor, modality_ids: Tensor, images: Tensor | None = None) -> Tensor:
        """Our logits of text."""
        given = {} if images is None else {"features": {"image": images}}
        logits: Tensor = self.ours(ids, modality_ids, **given).logits["text"]
        return logits

    def logits(self, ids: Tensor, images: Tensor | None, **more: Any) -> Tensor:
        """The original's, where a row is images [n, 24] and then text."""
        states = None if images is None else self.projector(images)
        with widened(torch.float64):
            found: Tensor = self.theirs(input_ids=ids, cross_attention_states=states, use_cache=False, **more).logits
        return found


def test_the_original_has_the_same_logits_and_gradients() -> None:
    pair = Pair()
    ids, modality_ids = ids_of("iiiiimtttttt", "iiiiitmttttt")
    theirs = torch.where(modality_ids == MARK, VOCAB + ids % 8, ids)[:, 5:]  # the token in an image's place is said
    images = torch.randn(2, 5, 24, dtype=torch.float64)
    expected = pair.logits(theirs, images)
    got = pair.said(torch.where(modality_ids == MARK, ids % 8, ids), modality_ids, images)[:, 5:]
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (got * weights).sum().backward()
    gradients = parameters_of(pair.bijection, tensors(pair.theirs, pair.projector, lambda each: each.grad))
    parameters = dict(pair.ours.named_parameters())
    assert gradients.keys() == parameters.keys()
    assert parameters["head.mark.weight"].grad is None and not gradients.pop("head.mark.weight").any()
    for name, gradient in gradients.items():
        scale = gradient.abs().max()
        assert scale > 0, name
        torch.testing.assert_close(parameters[name].grad / scale, gradient / scale, rtol=1e-9, atol=1e-9, msg=name)


def test_parameters_at_the_published_size() -> None:
    with torch.device("meta"):
        theirs = LLAMA_VISION.made(small=False)
    given = LLAMA_VISION.tensors(theirs, dict(theirs.named_parameters()))
    shapes = {name: tuple(tensor.shape) for name, tensor in given.items()}
    model = compile_ir(LLAMA_VISION.path)
    bijection = bijection_of(LLAMA_VISION.weights, shapes, model)
    numbers = sum(prod(shapes[name]) for move in bijection.moves for name in move.tensors)
    assert bijection.zeros == {"head.mark.weight": (8, 4096)}
    assert total_parameters(model) == numbers + 8 * 4096
    row = next(
        line for line in (GALLERY / "README.md").read_text().splitlines() if "(llama_3_2_vision_11b.mot)" in line
    )
    assert f"| {numbers + 8 * 4096:,} | {sum(each.numel() for each in theirs.parameters()):,} |" in row


def test_without_images_these_layers_are_left_out_as_in_the_original() -> None:
    pair = Pair()
    ids, modality_ids = ids_of("ttttttt")
    torch.testing.assert_close(pair.said(ids, modality_ids), pair.logits(ids, None), rtol=1e-9, atol=1e-9)
    both, of_both = ids_of("iiittt", "tttttt")
    together = pair.said(both, of_both, torch.randn(3, 24, dtype=torch.float64))[1]
    torch.testing.assert_close(together, pair.logits(both[1:], None)[0], rtol=1e-9, atol=1e-9)


def test_what_comes_before_an_image_does_not_see_it() -> None:
    pair = Pair()
    ids, modality_ids = ids_of("ttiitt")
    images = torch.randn(2, 2, 24, dtype=torch.float64)
    one, other = (pair.said(ids, modality_ids, each) for each in images)
    torch.testing.assert_close(one[:, :2], other[:, :2])
    assert not torch.isclose(one[:, 4:], other[:, 4:]).any()
    torch.testing.assert_close(pair.said(ids[:, :2], torch.tensor([[TEXT, TEXT]])), one[:, :2])


def test_gates_start_closed() -> None:
    """As it starts, images change nothing, and the gates alone learn of them."""
    model: Any = motc.load(CAUSAL, dtype=torch.float64)
    ids, modality_ids = ids_of("iittt")
    one, other = (
        model(ids, modality_ids, features={"image": torch.randn(2, 24, dtype=torch.float64)}).logits for _ in range(2)
    )
    assert torch.equal(one, other)
    one.square().sum().backward()
    for name, parameter in model.named_parameters():
        if "out_gate" in name or ".images." in name:
            assert parameter.grad.any() == ("out_gate" in name), name


def test_gates_alone_may_be_trained() -> None:
    """Of a model that is frozen but for its gates, the backward leaves out none that these need."""
    torch.manual_seed(0)
    model: Any = motc.load(CAUSAL, dtype=torch.float64)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    ids, modality_ids = ids_of("iittt")
    given = {"features": {"image": torch.randn(2, 24, dtype=torch.float64)}}
    gates = {name: each for name, each in model.named_parameters() if "out_gate" in name}
    expected = torch.autograd.grad(model.loss(ids, modality_ids, **given).total, list(gates.values()))
    motc.freeze(model, "*")
    motc.unfreeze(model, "*.out_gate")
    model.loss(ids, modality_ids, **given).total.backward()
    for (name, gate), gradient in zip(gates.items(), expected, strict=True):
        assert gradient.any(), name
        torch.testing.assert_close(gate.grad, gradient, msg=name)


def test_greedy_decoding_is_the_originals() -> None:
    pair = Pair()
    for rows, images in (("iiitt", torch.randn(1, 3, 24, dtype=torch.float64)), ("ttt", None)):
        ids, modality_ids = ids_of(rows)
        given = {} if images is None else {"features": {"image": images}}
        with torch.no_grad():
            made = pair.ours.generate(ids, modality_ids, max_new_tokens=6, temperature=0.0, **given).input_ids
            known = ids[:, modality_ids[0] == TEXT]
            for _ in range(6):
                best = pair.logits(known, images)[:, -1:].argmax(-1)
                known = torch.cat((known, best), dim=1)
        assert made.tolist() == known[:, -6:].tolist()


@pytest.mark.parametrize("text", [CAUSAL, FULL], ids=["causal", "full"])
def test_generated_tokens_are_those_of_whole_sequences(text: str) -> None:
    torch.manual_seed(0)
    model: Any = motc.load(text, dtype=torch.float64)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    ids, modality_ids = ids_of("tiitt", "..ttt", "itttt")
    images = {"image": torch.randn(3, 24, dtype=torch.float64)}
    made = model.generate(ids, modality_ids, features=images, max_new_tokens=5, temperature=0.0).input_ids
    for _ in range(5):
        logits = model(ids, modality_ids, features=images).logits[:, -1:]
        ids = torch.cat((ids, logits.argmax(-1)), dim=1)
        modality_ids = torch.cat((modality_ids, torch.full((3, 1), TEXT)), dim=1)
    assert made.tolist() == ids[:, -5:].tolist()


def test_what_it_costs() -> None:
    """With images first, each of a row's tokens pays for these alone, and images for their keys and values."""
    model: Any = motc.load(CAUSAL)
    ids, modality_ids = ids_of("i" * 12 + "t" * 6)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(ids, modality_ids, features={"image": torch.randn(12, 24)})
    maps = 32 * (32 + 16 + 16 + 32) + 3 * 32 * 48, 32 * (32 + 32) + 3 * 32 * 48
    products = 6 * (2 * sum(maps) + 32 * 48) + 12 * (24 * 32 + 2 * 2 * 32 * 16)
    assert counter.get_total_flops() == 2 * products
    _, crossing = model.layout(modality_ids).rows.by_mask
    (call,) = crossing.views.calls  # of six queries and twelve keys, without a matrix
    assert (call.queries.order.shape, call.keys.order.shape, crossing.mask) == ((1, 6), (1, 12), None)


@pytest.mark.compiled
def test_one_graph() -> None:
    torch._dynamo.reset()
    models: list[Any] = [motc.load(CAUSAL) for _ in range(2)]
    model, plain = models
    model.compile(backend="eager", fullgraph=True)
    torch._dynamo.utils.counters.clear()
    graphs = set()
    for rows in (("iitttt", "iittt."), ("iiittttt",), ("ittt", "ittt", "ittt")):
        ids, modality_ids = ids_of(*rows)
        images = {"image": torch.randn(int((modality_ids == IMAGE).sum()), 24)}
        losses, expected = (each.loss(ids, modality_ids, features=images).total for each in (model, plain))
        losses.backward()
        torch.testing.assert_close(losses, expected)
        graphs.add(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert len(graphs) == 1


def test_gates_are_the_same_model_if_they_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "spec.mot"

    def hash_of(text: str) -> str:
        path.write_text(text)
        return semantic_hash(compile_ir(path))

    without = CAUSAL.replace("tanh", "none")
    assert hash_of(without) == hash_of(
        without.replace(", out_gate = none", "").replace(", ffn { out_gate = none }", "")
    )
    assert len({hash_of(CAUSAL), hash_of(without), hash_of(FULL)}) == 3


MISTAKES = {
    CAUSAL.replace("attention = none, ffn = none", "ffn = none"): "tower language cannot attend to image alone",
    CAUSAL.replace("cross = image", "cross = language"): "tower language cannot attend to text alone",
    CAUSAL.replace("cross = image", "cross = picture"): "no modality or tower `picture`",
    CAUSAL.replace("cross = image", "cross = image, reads = image"): "tower language reads others, and attends",
    CAUSAL.replace("modality text", "modality text, speech"): "`speech` has attention of its own in layers",
    CAUSAL.replace("tower images = image {", "tower images = image { width = 16,"): "towers are of several widths",
    CAUSAL.replace("modality text", "modality sound { features { size = 8 } }\n  modality text").replace(
        "images = image", "images = image, sound"
    ): "tower language attends to image, and not to sound of the same tower",
}


@pytest.mark.parametrize("text", MISTAKES, ids=[*MISTAKES.values()])
def test_mistakes(text: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.mot"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        compile_ir(path)
    assert any(each.message.startswith(MISTAKES[text]) for each in caught.value.diagnostics), caught.value


def test_grouped_says_that_it_cannot(tmp_path: Path) -> None:
    path = tmp_path / "spec.mot"
    path.write_text(CAUSAL)
    with pytest.raises(SpecError, match="the grouped strategy cannot run"):
        compile_ir(path, strategy="grouped")
