"""Conditions of spans and adaptive norms: laws and strategies, what each token has, what is refused, and generating."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import motc
from motc.cost import latent_span_flops
from motc.diff import diff
from motc.driver import compile_ir
from motc.ir.identity import semantic_hash
from motc.ir.names import parameter_shapes
from motc.source import SourceFile, SpecError
from tests.fuzz.properties import agrees_with_sorted
from tests.planted import broken, report
from tests.texts import of_one_layer

ALL = """
model all_parts {
  width = 16, layers = 2, vocab = 20
  modality text
  modality image {
    latent { channels = 3, patch = 2, objective = flow }
    condition {
      width = 12
      timestep { size = 8, closed = true }, label { count = 5 }, number { size = 8, scale = 2 }, vector { size = 6 }
    }
  }
  attention { heads = 2, mask { bidirectional = image } }
  ffn { hidden = 24 }
  norm { kind = layer, weight = false, placement = both, adaptive = image }
}
"""
TOWERS = """
model towers {
  width = 16, layers = 2, vocab = 20
  modality text
  modality image { latent { channels = 3, patch = 2 }, condition { timestep { size = 8 } } }
  modality action {
    latent { channels = 3, patch = [1], objective = flow, time = concat }
    condition { width = 12, timestep { size = 8, min_period = 0.004, max_period = 4 } }
  }
  attention { heads = 2, mask { bidirectional = [image, action] } }
  ffn { hidden = 24 }
  norm { final { kind = layer, weight = false } }
  tower gen = image { norm { adaptive { by = image, gate = tanh } } }
  tower act = action { norm { adaptive { by = action, parts = [shift, scale], bias = false } } }
  untie attention, ffn, norm
}
"""
WIDTHS = TOWERS.replace("model towers", "model widths").replace("act = action {", "act = action { width = 8,")
WIDTHS = WIDTHS.replace("norm { adaptive { by", "norm { offset = 1, adaptive { by")
WIDTHS = WIDTHS.replace("untie attention, ffn, norm", "untie *")
SHARED = """
model shared_maps {
  width = 16, layers = 3, vocab = 20
  modality text
  modality image {
    latent { channels = 3, patch = 2, time = none, objective = flow }
    condition { width = 12, timestep { size = 8 } }
  }
  attention { heads = 2, mask = full }
  ffn { hidden = 24 }
  norm { kind = layer, weight = false, adaptive { by = image, shared = apart, bias = false, table = true } }
  layer 2 { norm { adaptive { by = image, parts = [scale, gate], shared = joint, gate = tanh } } }
  untie * in layers 0..1
}
"""
SINGLE = """
model single {
  width = 16, layers = 2, vocab = 20
  modality text
  modality image {
    latent { channels = 3, patch = 2, time = none, objective = flow }
    condition { timestep { size = 8 } }
  }
  attention { heads = 2, mask = full, rope = none, bias = true }
  ffn { kind = gelu_tanh, hidden = 24, bias = true }
  norm {
    kind = layer, weight = false, eps = 1e-6, adaptive { by = image, shared = all, table = true, activation = none }
    final { adaptive { by = image, activation = none, map = false, table = true } }
  }
}
"""
FEW = """
model few_untied {
  width = 16, layers = 3
  modality text { vocab = 9 }
  modality image {
    latent { channels = 3, patch = 2, objective = flow, time = none }
    condition { timestep { size = 8 } }
  }
  attention { heads = 2, mask { bidirectional = image } }
  ffn { hidden = 24 }
  norm { adaptive = image }
  untie * in layer 0
}
"""  # whose stream is not kept sorted, though a layer sorts in both of its sublayers
SPECS = {"few_untied": FEW, "all_parts": ALL, "towers": TOWERS, "widths": WIDTHS, "shared": SHARED, "single": SINGLE}


def ir(text: str) -> Any:
    return compile_ir(SourceFile("conditions.mot", text))


@pytest.mark.laws
@pytest.mark.parametrize("name", SPECS)
def test_every_law_holds(name: str) -> None:
    verdict = report(of_one_layer(SPECS[name]))
    assert verdict.ok, verdict


@pytest.mark.laws
def test_a_shift_that_is_a_scale_is_found() -> None:
    assert broken(of_one_layer(ALL), "h = modulated(h, modulation, spans)", "h = gated(h, modulation, spans)")


@pytest.mark.laws
@pytest.mark.parametrize(
    "right, wrong",
    [
        ('Modulation("image.plain", WIDTH', 'Modulation("image", WIDTH'),
        ('"image.plain", in_parts=False', '"image", in_parts=False'),
        ("modulated(self.final_norm(x), self.final_modulation(conditions), spans)", "self.final_norm(x)"),
    ],
)
def test_what_is_activated_or_not_modulated_by_mistake_is_found(right: str, wrong: str) -> None:
    assert broken(of_one_layer(SINGLE), right, wrong)


@pytest.mark.parametrize("strategy, tolerance", [("blend", 1e-12), ("reference", 1e-12), ("grouped", 2e-4)])
@pytest.mark.parametrize("name", SPECS)
def test_strategies_agree(name: str, strategy: Any, tolerance: float) -> None:
    if strategy != "grouped" or name != "widths":  # whose copies have several shapes
        agrees_with_sorted(of_one_layer(SPECS[name]), strategy, tolerance)


def filled(text: str, **more: Any) -> Any:
    """A model of random parameters, in float64."""
    model: Any = motc.load(text, dtype=torch.float64, **more)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return model


def image(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, 2, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def given(count: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        "label": torch.randint(0, 5, (count,), generator=generator),
        "number": torch.rand(count, generator=generator),
        "vector": torch.randn(count, 6, generator=generator),
    }


def test_at_first_layers_add_nothing() -> None:
    """Modulations start at 0: a gate lets nothing through."""
    model: Any = motc.load(ALL, dtype=torch.float64)
    ids, modality_ids = torch.zeros(1, 4, dtype=torch.int64), torch.tensor([[0, 0, 1, 1]])
    how: dict[str, Any] = {"latents": {"image": image(1)}, "timesteps": {"image": torch.tensor([300.0])}}
    how["conditions"] = {"image": given(1)}
    before = model(ids, modality_ids, **how)
    for layer in model.layers:
        torch.nn.init.ones_(layer.ffn.down.weight)
    assert torch.equal(before.logits, model(ids, modality_ids, **how).logits)
    assert all((parameter == 0).all() for name, parameter in model.named_parameters() if ".modulation." in name)


def test_tokens_have_their_own_span_or_the_first_of_their_document() -> None:
    """What is changed for a span changes its tokens, and text whose document it is the first of; nothing else."""
    model = filled(ALL.replace("bidirectional = image", "bidirectional = image, sees { text = text, image = image }"))
    modality_ids = torch.tensor([[0, 1, 1, 0, 1, 1, 0, -1, 0, 0, 1, 1]])
    documents = torch.tensor([[0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 2]])
    ids, latents = torch.zeros_like(modality_ids), {"image": image(3)}
    conditions = {"image": given(3)}
    how = {"latents": latents, "document_ids": documents, "timesteps": {"image": torch.tensor([10.0, 500.0, 900.0])}}
    before = model(ids, modality_ids, conditions=conditions, **how)
    for changed, texts in ((0, [0, 3, 6]), (1, []), (2, [9])):
        other = {name: value.clone() for name, value in given(3).items()}
        other["number"][changed] += 1
        after = model(ids, modality_ids, conditions={"image": other}, **how)
        moved = (before.logits != after.logits).any(-1)[0].nonzero().flatten().tolist()
        assert moved == texts
        of_spans = (before.predictions["image"] != after.predictions["image"]).flatten(1).any(1)
        assert of_spans[changed] and (changed != 2 or not of_spans[:2].any())


def test_labels_that_are_not_given_are_null() -> None:
    model = filled(ALL)
    ids, modality_ids = torch.zeros(1, 2, dtype=torch.int64), torch.tensor([[1, 1]])
    how = {"latents": {"image": image(1)}, "timesteps": {"image": torch.tensor([300.0])}}
    said = {**given(1), "label": torch.tensor([5])}
    unsaid = {name: value for name, value in said.items() if name != "label"}
    one, other = (
        model(ids, modality_ids, conditions={"image": each}, **how).predictions["image"] for each in (said, unsaid)
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"vector": None}, "a condition of image needs a vector"),
        ({"vector": torch.zeros(1, 5)}, r"the vector in conditions of image must be \[1, 6\], not \[1, 5\]"),
        ({"label": torch.tensor([6])}, r"must be 0..5, not \[6\]"),
        ({"label": torch.tensor([1.0])}, "must be int64"),
        ({"colour": torch.zeros(1)}, "'colour' is nothing that a condition of image takes: label, number, vector"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, Any], told: str) -> None:
    model = filled(ALL)
    ids, modality_ids = torch.zeros(1, 2, dtype=torch.int64), torch.tensor([[1, 1]])
    how = {"latents": {"image": image(1)}, "timesteps": {"image": torch.tensor([300.0])}}
    wrong = {name: value for name, value in {**given(1), **changed}.items() if value is not None}
    with pytest.raises(ValueError, match=told):
        model(ids, modality_ids, conditions={"image": wrong}, **how)
    with pytest.raises(ValueError, match="'text' is no modality with a condition of this model: image"):
        model(ids, modality_ids, conditions={"text": {}}, **how)


def test_a_model_without_conditions_takes_none() -> None:
    plain: Any = motc.load(
        "model plain { width = 8; layers = 1; vocab = 4; modality text; modality image { latent { channels = 1, "
        "patch = 2 } }; attention { heads = 2 } }"
    )
    with pytest.raises(ValueError, match="'image' is no modality with a condition of this model: it has none"):
        plain(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64), conditions={"image": {}})


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("adaptive = image", "adaptive = text", "`text` is no modality with a condition"),
        ("adaptive = image", "adaptive = none", "no norm has the condition of image"),
        ("placement = both", "placement = post", "norms that are post cannot be adaptive"),
        ("adaptive = image", "adaptive { by = image, parts = [scale, scale] }", "a part is named twice"),
        ("size = 8, closed = true", "size = 7", "7 is no number of cosines and as many sines"),
        ("size = 8, closed = true", "size = 8, closed = true, min_period = 1, max_period = 2", "`closed` says nothing"),
        ("size = 8, closed = true", "size = 8, min_period = 1", "periods go up"),
        ("modality text\n", "modality text { condition { label { count = 2 } } }\n", "a condition is of latents"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused(old: str, new: str, told: str) -> None:
    with pytest.raises(SpecError) as refused:
        ir(ALL.replace(old, new))
    assert any(each.code == "MOT094" and told in each.message for each in refused.value.diagnostics)


@pytest.mark.laws
def test_a_gate_through_tanh_is_told_of_and_one_that_is_none_refused() -> None:
    tanh = TOWERS.replace("gate = tanh", "gate = linear")
    edits = diff(ir(tanh), ir(TOWERS))
    assert [(edit.subject, edit.after) for edit in edits] == [("norm.adaptive", "by image: scale, shift, tanh of gate")]
    assert semantic_hash(ir(tanh)) != semantic_hash(ir(TOWERS))
    assert broken(TOWERS, 'gate="tanh"', 'gate="linear"')
    with pytest.raises(SpecError, match="`gate` says nothing where no part is the gate"):
        ir(TOWERS.replace("bias = false", "gate = tanh"))
    with pytest.raises(SpecError, match="`gate` says nothing of a final norm"):
        ir(SINGLE.replace("final { adaptive { by = image,", "final { adaptive { by = image, gate = tanh,"))


@pytest.mark.laws
def test_shared_maps_are_made_once_and_a_table_in_each_layer() -> None:
    model, shapes = ir(SHARED), parameter_shapes(ir(SHARED))
    maps = "conditions.image.shared."
    assert shapes[f"{maps}apart.ffn.text.shift.weight"] == shapes[f"{maps}joint.attention.gate.weight"] == (16, 12)
    assert f"{maps}joint.attention.gate.bias" in shapes and f"{maps}apart.ffn.text.shift.bias" not in shapes
    assert shapes["layers.1.attention.modulation.image.gate"] == (16,)
    assert not any(name.startswith("layers.2.attention.modulation") for name in shapes)
    of_condition = 2 * (8 * 12 + 12 * 12)
    maps_made = 2 * 2 * 3 + 2 * 2 + 2  # two copies of two sublayers' three, then two sublayers' two, and the final two
    assert latent_span_flops(model, "image") == of_condition + 2 * 12 * 16 * maps_made
    own = ir(SHARED.replace("shared = joint, ", ""))
    assert {edit.subject for edit in diff(own, model)} == {"norm.adaptive", "condition"}
    assert sum(edit.parameters for edit in diff(own, model)) == 0  # of one layer: there as many as were in it
    assert semantic_hash(own) != semantic_hash(model)
    assert broken(SHARED, '"image": GivenModulation("apart.ffn.image"', '"image": GivenModulation("apart.ffn.text"')


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("shared = apart, ", "", "a table is added to what maps give that layers share, or where there are no maps"),
        ("shared = apart, ", "map = false, ", "without maps a condition of 12 is as wide as the stream"),
        ("shared = apart, ", "map = false, shared = apart, ", "there are no maps to share"),
        (
            "kind = layer,",
            "kind = layer, final { adaptive { by = image, shared = a } },",
            "a final norm shares no maps",
        ),
        ("shared = joint", "shared = apart", "layer 2 cannot share `apart` with the layers before it"),
        (
            "layers 0..1",
            "layer 0",
            "layer 1 cannot share `apart` with the layers before it: attention.modulation differs",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(old: str, new: str, told: str) -> None:
    with pytest.raises(SpecError) as refused:
        ir(SHARED.replace(old, new))
    assert any(each.code == "MOT094" and told in each.message for each in refused.value.diagnostics)


def test_a_final_norm_is_adaptive_by_what_layers_are() -> None:
    text = TOWERS.replace("final { kind = layer", "final { adaptive = image, kind = layer")
    with pytest.raises(SpecError, match="the final norm of text is adaptive by image, and its norms in layers are not"):
        ir(text)
    assert ir(TOWERS.replace("final { kind = layer", "final { adaptive = none, kind = layer")).final_modulation is None


def test_norms_are_adaptive_by_one_modality_in_all_layers() -> None:
    text = TOWERS.replace("untie", "layer 1 { tower gen { norm { adaptive = action } } }\n  untie", 1)
    with pytest.raises(SpecError, match="norms of image are adaptive by action in some layers, and by image in others"):
        ir(text)


def test_what_conditions_cost_and_change_is_told() -> None:
    model = ir(ALL)
    maps = 2 * (8 * 12 + 12 * 12) * 2 + 2 * (6 * 12 + 12 * 12)  # of timestep and number, and of the vector
    modulations = 2 * 12 * 16 * (2 * 2 * 3 + 2)  # of two sublayers in two layers, and of the final norm
    time = 2 * (256 * 16 + 16 * 16)
    assert latent_span_flops(model, "image") == maps + modulations + time
    other = ir(ALL.replace("adaptive = image", "adaptive { by = image, parts = [scale, gate] }"))
    edits = diff(model, other)
    assert [edit.subject for edit in edits] == ["norm.adaptive"] * 2  # in the layers, and of the final norm
    assert [edit.parameters for edit in edits] == [-(16 * 12 + 16) * 2 * 2, -(16 * 12 + 16)]
    assert semantic_hash(model) != semantic_hash(other)


def test_actions_are_generated_as_a_loop_of_whole_forwards_makes_them() -> None:
    """The prompt is computed once: its tokens know nothing of the condition of what is denoised."""
    text = WIDTHS.replace("{ bidirectional = [image, action] }", "{ kind = blocks, blocks = [[text, image], action] }")
    model = filled(text)
    ids, modality_ids = torch.tensor([[3, 4], [5, 0]]), torch.tensor([[0, 0], [0, -1]])

    class Steps:
        timesteps = torch.tensor([1000.0, 400.0])

        def set_timesteps(self, steps: int, device: Any = None) -> None: ...

        def step(self, predicted: Tensor, at: Tensor, x: Tensor) -> Any:
            return type("Step", (), {"prev_sample": x - 0.4 * predicted})

    made = model.generate(ids, modality_ids, sizes={"action": 3}, schedulers={"action": Steps()}, denoising_steps=2)
    whole = torch.cat((modality_ids, torch.full((2, 3), 2)), dim=1)
    noise = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 3, generator=noise, dtype=torch.float64)
    positions = (whole >= 0).cumsum(1) - 1
    for at in Steps.timesteps:
        how = {"latents": {"action": x}, "timesteps": {"action": at.expand(2)}, "position_ids": positions}
        x = x - 0.4 * model(torch.nn.functional.pad(ids, (0, 3)), whole, **how).predictions["action"]
    torch.testing.assert_close(made.latents["action"], x, rtol=0, atol=1e-10)


def test_what_others_know_of_a_condition_cannot_be_generated() -> None:
    assert not hasattr(motc.load(ALL), "generate")


@pytest.mark.compiled
def test_layers_that_share_modulations_are_one_graph_a_kind() -> None:
    model, plain = filled(SHARED), filled(SHARED)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model.compile(backend="eager")
    modality_ids = torch.tensor([[0, 0, 1, 1], [0, 1, 1, -1]])
    how: Any = {"latents": {"image": image(2)}, "timesteps": {"image": torch.tensor([30.0, 600.0])}}
    one, other = (each(torch.zeros_like(modality_ids), modality_ids, **how).predictions for each in (model, plain))
    torch.testing.assert_close(one["image"], other["image"], rtol=0, atol=0)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 5  # embed, two kinds of layers, leave, and read


@pytest.mark.compiled
def test_one_graph_serves_every_mixture() -> None:
    """Uncompiled and by one graph of each part the same, whatever modalities there are."""
    model, plain = filled(TOWERS), filled(TOWERS)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model.compile(backend="eager")
    for row, spans in (([0, 0, 1, 1, 0], 1), ([0, 0, 0], 0), ([1, 1], 1)):
        modality_ids = torch.tensor([row])
        latents = {"image": image(spans)} if spans else {}
        how = {"latents": latents, "timesteps": {"image": torch.full((spans,), 30)} if spans else {}}
        one, other = (each(torch.zeros_like(modality_ids), modality_ids, **how) for each in (model, plain))
        torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=0)
        for name in latents:
            torch.testing.assert_close(one.predictions[name], other.predictions[name], rtol=0, atol=0)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs == 4  # embed, the layers, leave, and read
