"""A tower that reads others in given layers: by definition, in every strategy, in few calls, and what it refuses."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

import motc
from motc.cost import flops_per_token
from motc.driver import compile_ir
from motc.ir.execution import Strategy
from motc.ir.mask import Mask
from motc.ir.model import Model
from motc.reference.visibility import visibility
from motc.source import SourceFile, SpecError
from motc.validate.config import reference_mask
from tests.fuzz.properties import differ_alike_both_ways, forget_generated, is_written_and_read_back, obeys_every_law
from tests.planted import broken
from tests.test_masks import NAMES, random_rows, run_template

SPEC = """
model reading {
  width = 16, layers = 2, vocab = 16
  modality text, image, action, state
  attention { heads = 4, kv_heads = 2, head_dim = 4, ATTENTION }
  ffn { hidden = 16 }
  tower und = text, image
  tower expert = action, state { TOWER }
  layers 0..1 { tower expert { attention { reads = und } } }
  LAYERS
  untie *
}
"""
PREFIX = "mask { kind = prefix, prefix = image }"
SPECS = {
    "prefix": (PREFIX, "", "layer 0 { tower expert { attention { reads = [] } } }"),
    "blocks, a narrower expert, biases": (
        "bias = true, mask { kind = blocks, blocks = [und, [action, state]] }",
        "width = 8, ffn { hidden = 12 }",
        "",
    ),
    "everything about scores": (
        "scale = 0.3, softcap = 2, sinks = true, gate = true, "
        "qk_norm { kind = rms, over = heads, place = after_rope }, "
        "rope { scaling { kind = dynamic, factor = 4, original_length = 4 } }",
        "",
        "layer 1 { attention { window = 4 } }",
    ),
    "runs, axes, and less than it sees": (
        "bias = true, sinks = true, qk_norm = layer, rope { sections = [1, 1] }, "
        "mask { runs = [[text, image, action]], sees { action = [action, text] } }",
        "attention { rope { theta = 50 } }",
        "layer 1 { attention { mask = full } }",
    ),
    "without gradient": (
        "mask { kind = prefix, prefix = image, detach { action = und, state = text, image = text } }",
        "",
        "layer 1 { attention { mask { kind = full, detach { state = und } } } }",
    ),
    "some without attention": (
        "",
        "",
        "layer 0 { tower expert { attention = none } }",
    ),
}


@pytest.fixture(autouse=True)
def forgotten() -> Any:
    yield
    forget_generated()


def text_of(name: str) -> str:
    attention, tower, layers = SPECS[name]
    return SPEC.replace("ATTENTION", attention).replace("TOWER", tower).replace("LAYERS", layers)


def model_of(text: str, strategy: Strategy = "sorted", *, dense: bool = False) -> Model:
    return compile_ir(SourceFile("a.mot", text), strategy=strategy, dense=dense)


@pytest.mark.laws
@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        *((name, "sorted") for name in SPECS),
        ("without gradient", "blend"),
        ("runs, axes, and less than it sees", "reference"),
    ],
)
def test_every_law_holds(name: str, strategy: Strategy) -> None:
    sparse, dense = model_of(text_of(name), strategy), model_of(text_of(name), dense=True)
    obeys_every_law(sparse, dense, seed=5)
    differ_alike_both_ways(sparse, dense)
    is_written_and_read_back(text_of(name))


MISTAKES = {
    "keys": ("self.key_map(k.flatten(2))", "k.flatten(2)"),
    "positions": ("restarted(positions, layout, (2, 3))", "positions"),
}


@pytest.mark.laws
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str) -> None:
    assert {"reference outputs", "reference gradients"} <= broken(text_of("prefix"), *MISTAKES[mistake])


def test_who_sees_whom() -> None:
    reads = (("action", ("text", "image")),)
    masks = [
        Mask(kind="causal", reads=reads),
        Mask(kind="full", reads=(("action", ("text",)), ("image", ("text",))), window=3),
        Mask(kind="prefix", prefix=("text",), bidirectional=("action", "image"), reads=reads),
        Mask(kind="blocks", blocks=(("action",), ("image", "text")), reads=(("image", ("text", "action")),)),
        Mask(kind="causal", sees=(("action", ("action", "text")),), runs=(("text", "action"),), reads=reads),
        Mask(kind="causal", absent=("image",), reads=(("action", ("text",)),)),
    ]
    for number, mask in enumerate(masks):
        simple = mask.simplified(NAMES)
        assert simple == simple.simplified(NAMES)
        for seed in range(3):
            modality_ids, document_ids = random_rows(10 * number + seed, 3)
            for documents in (document_ids, None):
                expected = visibility(reference_mask(simple), NAMES, modality_ids, documents)
                absent = [NAMES.index(name) for name in mask.absent]
                apart = (modality_ids < 0) | torch.isin(modality_ids, torch.tensor(absent))
                itself = torch.eye(modality_ids.shape[1], dtype=torch.bool) & apart[:, :, None]
                assert torch.equal(run_template(simple, NAMES, modality_ids, documents), expected | itself)


@pytest.mark.parametrize(
    ("name", "modalities", "calls"),
    [
        ("blocks, a narrower expert, biases", [0, 1, 1, 0, 2, 3], 3 + 3),
        ("prefix", [1, 0, 0, 0, 2, 3], 2 + 4),
        ("prefix", [1, 2, 0, 0, 2, 3], 2 + 3),  # some of what is read comes later
    ],
)
def test_in_how_many_calls(name: str, modalities: list[int], calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each set of tokens that is seen, where no matrix is needed; else one for each that reads, and another."""
    made: list[int] = []
    real = torch.nn.functional.scaled_dot_product_attention

    def counted(*of: Any, **more: Any) -> torch.Tensor:
        made.append(0)
        return real(*of, **more)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    model: Any = motc.load(text_of(name))
    model(torch.zeros(2, 6, dtype=torch.int64), torch.tensor([modalities] * 2))
    assert len(made) == calls


@pytest.mark.compiled
def test_one_graph() -> None:
    """For calls without a matrix, and one more for a matrix: for all sizes, and any share of those that read."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    model, plain = (cast("Any", motc.load(text_of("prefix"))) for _ in range(2))
    model.compile(backend="eager", fullgraph=True)
    torch._dynamo.utils.counters.clear()
    graphs = []
    for modalities in ([1, 0, 0, 2, 3], [1, 1, 0, 2, 2, 2, 3, 3], [2, 1, 0, 3, 3, 2], [0, 0, 1], [2, 2, 2, 2]):
        modality_ids = torch.tensor([modalities] * 2)
        ids = torch.randint(0, 8, modality_ids.shape)
        losses, expected = (each.loss(ids, modality_ids).total for each in (model, plain))
        losses.backward()
        torch.testing.assert_close(losses, expected)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1] and set(graphs[2:]) == {graphs[0] + 1}


def test_who_pays_for_maps() -> None:
    """Tokens that are read go through maps of those who read them, which have no keys of their own to make."""
    reads, plain = (flops_per_token(model_of(text)) for text in (text_of("prefix"), without(text_of("prefix"))))
    maps, keys = 2 * 2 * 8 * 8, 2 * 2 * 16 * 8
    assert {name: reads[name] - plain[name] for name in plain} == {
        **dict.fromkeys(("text", "image"), maps),
        **dict.fromkeys(("action", "state"), -keys),
    }


def test_generating() -> None:
    """What reads others is not made token by token, and neither is what stands beside it."""
    assert not hasattr(motc.load(text_of("prefix")), "generate")
    assert hasattr(motc.load(without(text_of("prefix"))), "generate")


@pytest.mark.parametrize(
    ("said", "code", "message"),
    [
        ("tower expert { attention { reads = speech } }", "MOT044", "no modality or tower `speech`"),
        (
            "tower expert { attention { reads = [und, action] } }",
            "MOT084",
            "tower expert cannot read action, which reads others in the same layers",
        ),
        (
            "tower und { attention = none }",
            "MOT084",
            "tower expert cannot read text, which has no attention in these layers",
        ),
        (
            "attention { mask { prefix = [image, action] } }",
            "MOT084",
            "`action` reads others, and cannot be in the prefix of these layers",
        ),
        (
            "attention { mask { sees { state = state } } }",
            "MOT084",
            "`state` sees none of those that it reads",
        ),
    ],
)
def test_mistakes(said: str, code: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        model_of(text_of("prefix").replace("untie *", f"untie *\nlayer 1 {{ {said} }}"))
    assert (code, message) in [(each.code, each.message) for each in caught.value.diagnostics]


def test_maps_are_shared_with_none_that_have_keys() -> None:
    with pytest.raises(SpecError, match=r"attention\.k is shared by text and action, but they need different ones"):
        model_of(text_of("prefix").replace("untie *", "untie *\nuntie attention.k as {text, image, action, state}"))


def test_grouped_products_refuse_it_by_name() -> None:
    with pytest.raises(SpecError, match=r"the grouped strategy cannot run attention\.k"):
        model_of(text_of("prefix"), "grouped")


def without(text: str) -> str:
    """The spec in which none reads others."""
    return text.replace("reads = und", "reads = []")
