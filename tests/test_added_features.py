"""Features whose further vectors are added after layers: every law and strategy, what is refused, and generating."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

import motc
from motc.cost import flops_per_token
from motc.diff import diff
from motc.driver import check_spec, compile_ir
from motc.ir.identity import semantic_hash
from motc.source import SourceFile, SpecError
from motc.validate.batches import random_batches
from motc.validate.reduce import reduce
from tests.fuzz.properties import agrees_with_sorted
from tests.planted import broken, report

DEEP = """
model deep {
  width = 32, layers = 4, vocab = 40
  modality text, speech
  modality vit { features { size = 12, projector { kind = relu, norm = rms }, added_after = "0..2 step 2" } }
  modality glyph { features { size = 32, projector = none, added_after = 1 } }
  attention { heads = 4 }
  ffn { hidden = 48 }
  untie ffn
}
"""
WIDTHS = """
model two_widths {
  width = 32, layers = 3, vocab = 40
  modality vit { features { size = 12, added_after = 0..1 } }
  modality text
  modality state { features { size = 16, projector = none, added_after = 1 } }
  attention { heads = 4, head_dim = 8, mask { bidirectional = vit } }
  tower expert = state { width = 16, ffn { hidden = 24 } }
  untie *
}
"""
SPECS = {"deep": DEEP, "two_widths": WIDTHS}
SHALLOW = """
model shallow {
  width = 16, layers = 2, vocab = 40
  modality text, speech
  modality vit { features { size = 12, added_after = 0 } }
  attention { heads = 2 }
  ffn { hidden = 24 }
  untie ffn
}
"""


def ir(text: str) -> Any:
    return compile_ir(SourceFile("added.mot", text))


@pytest.mark.laws
@pytest.mark.parametrize("name", SPECS)
def test_every_law_holds(name: str) -> None:
    verdict = report(SPECS[name])
    assert verdict.ok, verdict


@pytest.mark.laws
def test_adding_after_another_layer_is_found() -> None:
    assert broken(SHALLOW, "add_features(x, patches, number)", "add_features(x, patches, number - 1)")


@pytest.mark.parametrize("strategy, tolerance", [("blend", 1e-12), ("reference", 1e-12), ("grouped", 2e-4)])
@pytest.mark.parametrize("name", SPECS)
def test_strategies_agree(name: str, strategy: Any, tolerance: float) -> None:
    if strategy != "grouped" or name != "two_widths":  # whose copies have several shapes
        agrees_with_sorted(SPECS[name], strategy, tolerance)


def test_one_set_of_vectors_more_costs_a_projector_more() -> None:
    plain = flops_per_token(ir(DEEP.replace(', added_after = "0..2 step 2"', "")))
    assert flops_per_token(ir(DEEP))["vit"] - plain["vit"] == 2 * 2 * (12 * 32 + 32 * 32)


def test_a_diff_tells_the_layers() -> None:
    plain, deep = ir(DEEP.replace(", added_after = 1", "")), ir(DEEP)
    (edit,) = diff(plain, deep)
    assert (edit.subject, edit.before, edit.after) == ("features", "32", "32, more added after layers 1")
    assert (edit.modalities, edit.parameters) == (("glyph",), 0)
    assert semantic_hash(plain) != semantic_hash(deep)


def test_a_small_spec_adds_after_its_first_layers() -> None:
    small = reduce(check_spec(SourceFile("added.mot", DEEP))).spec
    features = {name: modality.features for name, modality in small.modalities.items()}
    assert small.layers == 2
    assert [str(each.added_after) for each in features.values() if each is not None] == ["0..0", "0..0"]


def batch() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Ids, modalities and features of `deep`: three images and a glyph in two rows."""
    modality_ids = torch.tensor([[2, 2, 0, 0, 1, 1, 0, 0], [0, 2, 3, 1, 1, 1, 0, -1]])
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 40, modality_ids.shape, generator=generator)
    vit = torch.randn(3, 3, 12, generator=generator, dtype=torch.float64)
    return ids, modality_ids, {"vit": vit, "glyph": torch.randn(1, 2, 32, generator=generator, dtype=torch.float64)}


def test_zeros_add_nothing_without_a_projector_and_each_vector_has_its_layer() -> None:
    model: Any = motc.load(DEEP, dtype=torch.float64)
    plain: Any = motc.load(DEEP.replace(", added_after = 1", ""), dtype=torch.float64)
    plain.load_state_dict(model.state_dict())
    ids, modality_ids, features = batch()
    first = features["glyph"][:, 0]
    expected = plain(ids, modality_ids, features={**features, "glyph": first}).logits
    alone = torch.stack([first, torch.zeros_like(first)], dim=1)
    assert model(ids, modality_ids, features={**features, "glyph": alone}).logits.equal(expected)
    assert not model(ids, modality_ids, features=features).logits.equal(expected)


def test_gradients_go_into_every_vector() -> None:
    model: Any = motc.load(DEEP, dtype=torch.float64)
    ids, modality_ids, features = batch()
    leaves = {name: x.requires_grad_() for name, x in features.items()}
    model.loss(ids, modality_ids, features=leaves).total.backward()
    assert all(x.grad is not None and x.grad.any(dim=-1).all() for x in leaves.values())


@pytest.mark.parametrize("shape", [(3, 12), (3, 2, 12), (9, 12), (3, 3)])
def test_other_shapes_are_told(shape: tuple[int, ...]) -> None:
    model: Any = motc.load(DEEP)
    ids, modality_ids, features = batch()
    said = "must be [tokens, 3, 12], of each token its vector and those that are added after layers"
    for call in (model, model.loss):
        with pytest.raises(ValueError, match=re.escape(f"features of vit {said}, not {[*shape]}")):
            call(ids, modality_ids, features={**features, "vit": torch.zeros(shape)})


@pytest.mark.parametrize(
    ("added", "code", "said"),
    [
        ("3", "MOT092", "layer 3 is the last one, and nothing is read of what features are after it"),
        ("0..4", "MOT041", "layers 0..4 are not within the model's 0..3"),
        ("2..1", "MOT041", "the range 2..1 is reversed"),
        ("[0, 1]", "MOT023", "layers are a number or a range"),
    ],
)
def test_other_layers_are_refused(added: str, code: str, said: str) -> None:
    with pytest.raises(SpecError) as refused:
        ir(DEEP.replace('"0..2 step 2"', added))
    first = refused.value.diagnostics[0]
    assert first.code == code and said in first.message


def test_a_step_without_quotes_is_told() -> None:
    with pytest.raises(SpecError) as refused:
        ir(DEEP.replace('"0..2 step 2"', "0..2 step 2"))
    assert refused.value.diagnostics[0].help == 'a range with a step is text here: `"0..2 step 2"`'


def test_none_takes_back_what_a_base_says() -> None:
    assert ir(DEEP.replace('"0..2 step 2"', "none")).feature_modalities()[0].projector.added_after == ()


@pytest.mark.parametrize("strategy", ["sorted", "blend"])
def test_a_prompt_is_continued(strategy: Any) -> None:
    """Its vectors are added while it is read, of packed documents those of the last one; later steps add nothing."""
    model: Any = motc.load(DEEP, dtype=torch.float64, strategy=strategy)
    ids, of = batch()[0][:1, :6], torch.tensor([[2, 2, 3, 0, 0, 0]])
    generator = torch.Generator().manual_seed(3)
    vit, glyph = torch.randn(4, 3, 12, generator=generator), torch.randn(2, 2, 32, generator=generator)
    given = {"vit": vit[2:].double(), "glyph": glyph[1:].double()}
    generated = model.generate(ids, of, features=given, max_new_tokens=4, temperature=0).input_ids
    whole, kinds, tokens = ids, of, []
    for _ in range(4):
        tokens.append(int(model(whole, kinds, features=given).logits[0, -1].argmax()))
        whole, kinds = torch.cat((whole, torch.tensor([tokens[-1:]])), 1), torch.cat((kinds, kinds[:, -1:]), 1)
    assert generated.tolist() == [tokens]
    both = {"vit": vit.double(), "glyph": glyph.double()}
    documents = torch.tensor([[0] * 6 + [1] * 6])
    packed = [torch.cat((x, x), 1) for x in (ids, of)]
    last = model.generate(*packed, document_ids=documents, features=both, max_new_tokens=4, temperature=0)
    assert last.input_ids.tolist() == [tokens]


@pytest.mark.compiled
def test_one_graph_serves_every_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that are added after are of the same kind as others, and adding is between graphs."""
    from tests.tracing import make_no_kernels

    torch._dynamo.reset()
    make_no_kernels(monkeypatch)
    model: Any = motc.load(SHALLOW)
    model.compile()
    torch._dynamo.utils.counters.clear()
    graphs = set()
    *batches, _ = random_batches(ir(SHALLOW), torch.Generator().manual_seed(0))  # of the last, documents share a row
    for each in batches[::2]:
        model.loss(each.input_ids, each.modality_ids, features=each.features, document_ids=each.document_ids)
        graphs.add(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    torch._dynamo.reset()
    assert graphs == {3}, "a kind of layer, what embeds and what scores"
