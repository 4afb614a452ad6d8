"""The edits between two models: what they say, and that they add up to the whole difference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motc.cost import total_parameters
from motc.diff import diff
from motc.diff.attributes import IN_LAYERS, OUTSIDE
from motc.diff.facts import LayerFacts, OuterFacts, Stretch, layer_stretch, outer_stretch
from motc.driver import final_ir
from motc.ir.layer import Layer
from motc.ir.mask import Mask
from motc.ir.model import Model
from motc.ir.operators import Operator
from motc.ir.rope import Rope
from motc.schema import check
from motc.source import SourceFile
from motc.syntax import read
from tests.calls import calls
from tests.fuzz.properties import assert_adds_up, differ_alike_both_ways
from tests.handmade import ATTENTION, FFN, LAYER, NORMS, OUTER, ROPE, Blocks, Recipe, Tower, untied, with_towers

EACH = (("text",), ("image",))
DENSE = Recipe()
MOT = replace(DENSE, runs=((4, untied(LAYER, *EACH)),), outer={"final_norm": EACH})


def told(a: Recipe, b: Recipe) -> list[str]:
    """The edits' kinds and texts up to the numbers, once it holds that the numbers add up."""
    one, other = a.model(), b.model()
    edits = diff(one, other)
    assert_adds_up(one, other, edits)
    return [f"{edit.kind} {edit.describe().split(' parameters')[0].rpartition(', ')[0]}" for edit in edits]


def test_a_model_does_not_differ_from_itself_or_from_one_that_is_named_or_split_otherwise() -> None:
    again = replace(MOT, runs=((1, MOT.runs[0][1]), (3, MOT.runs[0][1])))
    assert diff(MOT.model(), MOT.model()) == ()
    assert diff(MOT.model(), replace(again.model(), name="another")) == ()


def test_an_mot_and_its_dense_twin() -> None:
    edits = diff(DENSE.model(), MOT.model())
    assert [edit.describe() for edit in edits] == [
        "attention: {text image} → {text} {image}, layers 0..3, +49.2k parameters, ±0 FLOPs a token",
        "ffn: {text image} → {text} {image}, layers 0..3, +73.7k parameters, ±0 FLOPs a token",
        "norm: {text image} → {text} {image}, layers 0..3, +576 parameters, ±0 FLOPs a token",
    ]
    assert_adds_up(DENSE.model(), MOT.model(), edits)


def test_ranges_are_split_where_either_model_changes_and_merged_where_the_edit_does_not() -> None:
    a = replace(DENSE, runs=((3, {}), (3, untied(NORMS, *EACH))))
    b = replace(DENSE, runs=((2, untied(ATTENTION, *EACH)), (3, untied((*ATTENTION, "ffn.up"), *EACH)), (1, {})))
    assert told(a, b) == [
        "~ attention: {text image} → {text} {image}, layers 0..4",
        "~ ffn.up: {text image} → {text} {image}, layers 2..4",
        "~ *.norm: {text} {image} → {text image}, layers 3..5",
    ]


def test_a_leaf_some_modalities_lack_follows_its_section() -> None:
    kinds = {"text": Tower(), "image": Tower(), "speech": Tower(kind="gelu")}
    names = ("text", "image"), ("speech",)
    a = Recipe(towers=kinds, runs=((2, untied(FFN, *names)),))
    b = replace(a, runs=((2, untied(FFN, *((name,) for name in kinds))),))
    assert told(a, b) == ["~ ffn: {text image} {speech} → {text} {image} {speech}, layers 0..1"]


def test_extra_layers_are_one_edit() -> None:
    deeper = replace(MOT, runs=(*MOT.runs, (2, {}), (1, MOT.runs[0][1])))
    assert told(MOT, deeper) == ["+ layers 4..6"]
    assert told(deeper, MOT) == ["- layers 4..6"]


def test_attributes_of_the_whole_model() -> None:
    wide = {name: Tower(width=128, hidden=200, kind="geglu", norm="layer", bias=True) for name in DENSE.towers}
    b = replace(
        DENSE,
        towers=wide,
        heads=8,
        kv_heads=8,
        head_dim=32,
        eps=1e-6,
        mask=Mask(kind="full"),
        placement="sublayer_output",
        rope=Rope(theta=500000.0, pairing="interleaved"),
        vocab=1024,
        tied=True,
        final=False,
    )
    assert told(DENSE, b) == [
        "~ width: 64 → 128",
        "~ attention.heads: 4 → 8",
        "~ attention.kv_heads: 2 → 8",
        "~ attention.head_dim: 16 → 32",
        "~ attention.bias: false → true",
        "~ attention.out_bias: false → true",
        "~ attention.mask: causal → full",
        "~ attention.rope.theta: 10000 → 500000",
        "~ attention.rope.pairing: half → interleaved",
        "~ ffn.kind: swiglu → geglu",
        "~ ffn.hidden: 96 → 200",
        "~ ffn.bias: false → true",
        "~ norm.kind: rms → layer",
        "~ norm.eps: 1e-05 → 1e-06",
        "~ norm.placement: pre → sublayer_output",
        "~ vocab: 512 shared → 1024 shared",
        "~ embedding.tied: false → true",
        "~ norm.final: true → false",
    ]


def test_attributes_of_one_tower_name_it() -> None:
    b = with_towers(MOT, image=Tower(hidden=200, kind="gelu", qk_norm="rms"))
    assert told(MOT, b) == [
        "~ attention.qk_norm of image: none → rms",
        "~ ffn.kind of image: swiglu → gelu",
        "~ ffn.hidden of image: 96 → 200",
    ]
    hidden = next(edit for edit in diff(MOT.model(), b.model()) if edit.subject == "ffn.hidden")
    assert hidden.flops == {"text": 0, "image": 2 * 2 * 64 * (200 - 96) * 4}
    assert hidden.describe().endswith("+106.5k FLOPs a token (image)")


def test_vocabularies_of_their_own() -> None:
    b = replace(DENSE, vocab=None, vocabs={"text": 512, "image": 64}, outer=untied(("embedding", "head"), *EACH))
    assert told(DENSE, b) == [
        "~ embedding: {text image} → {text} {image}",
        "~ head: {text image} → {text} {image}",
        "~ vocab of text: 512 shared → 512 of its own",
        "~ vocab of image: 512 shared → 64 of its own",
    ]


def test_modalities_come_and_go() -> None:
    three = Recipe(
        towers={"text": Tower(), "image": Tower(), "speech": Tower()},
        runs=(
            (2, untied(LAYER, *EACH, ("speech",)) | untied(FFN, ("text",), ("image", "speech"))),
            (2, untied(LAYER, *EACH, ("speech",))),
        ),
        outer={"final_norm": (*EACH, ("speech",))},
    )
    place = "modality speech: vocab 512, shares ffn with image in layers 0..1, shares embedding head with text image"
    assert told(MOT, three) == [f"+ {place}"]
    assert told(three, MOT) == [f"- {place}"]
    assert told(MOT, replace(MOT, towers={"image": Tower(), "text": Tower()})) == [
        "~ order of modalities: text image → image text"
    ]


def test_a_rename_is_one_edit() -> None:
    vae = ("text",), ("vae",)
    b = Recipe(towers={"text": Tower(), "vae": Tower()}, runs=((4, untied(LAYER, *vae)),), outer={"final_norm": vae})
    assert told(MOT, b) == ["~ modality: image → vae"]


def test_modalities_go_in_the_reverse_of_the_order_they_come_in() -> None:
    """The one that goes first is told what it shares with the others: so the diffs mirror each other."""
    one = Recipe(towers={"text": Tower()})
    three = Recipe(towers={"text": Tower(), "image": Tower(), "speech": Tower()})
    assert [edit.kind + edit.subject for edit in diff(three.model(), one.model())] == [
        "-modality speech",
        "-modality image",
    ]
    differ_alike_both_ways(one.model(), three.model())


@pytest.mark.parametrize("final", [(True, True), (True, False), (False, True), (False, False)])
def test_norms_are_called_alike_both_ways(final: tuple[bool, bool]) -> None:
    """`norm` takes in the final norm, which may be in one of the two only; `*.norm` leaves it out."""
    with_norm, without = (
        Recipe(runs=((4, untied(NORMS, *blocks)),), outer={"final_norm": (("text", "image"),)}, final=has)
        for blocks, has in zip((EACH, (("text", "image"),)), final, strict=True)
    )
    differ_alike_both_ways(with_norm.model(), without.model())
    assert diff(with_norm.model(), without.model())[0].subject == ("*.norm" if all(final) else "norm")


def test_block_names_are_a_difference_because_parameter_names_are() -> None:
    assert told(MOT, replace(MOT, names={"text": "und"})) == ["~ block names: text → und"]


def test_json_is_json() -> None:
    edits = [edit.to_json() for edit in diff(DENSE.model(), MOT.model())]
    assert json.loads(json.dumps(edits)) == edits
    assert edits[1]["layers"] == [0, 3]
    assert edits[1]["parameters"] == 4 * 3 * 64 * 96


def test_every_attribute_has_a_subject() -> None:
    assert set(LayerFacts.__dataclass_fields__) - {"settings"} == set(IN_LAYERS.values())
    assert set(OuterFacts.__dataclass_fields__) == set(OUTSIDE.values())


def test_depth_costs_no_time() -> None:
    flat, deep = (
        [replace(recipe, runs=((layers, recipe.runs[0][1]),)).model() for recipe in (DENSE, MOT)]
        for layers in (2, 100_000_000)
    )
    assert_adds_up(*deep, diff(*deep))
    diff(*flat)
    assert calls(lambda: diff(*deep)) == calls(lambda: diff(*flat))


def test_layers_that_alternate_cost_what_their_kinds_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Layer] = []

    def counted(model: Model, layer: Layer, count: int, renamed: Mapping[str, str]) -> Stretch:
        asked.append(layer)
        return layer_stretch(model, layer, count, renamed)

    monkeypatch.setattr("motc.diff.edits.layer_stretch", counted)
    text = """
model alternating {
  width = 16
  layers = 40
  vocab = 9
  modality text, image
  attention { heads = 2 }
  %s
}
"""
    statements = "\n  ".join(f"untie ffn in layers {layer}" for layer in range(0, 40, 2))
    checked = check(read(SourceFile("alternating.mot", text % statements)))
    dense, alternating = final_ir(checked, dense=True), final_ir(checked)
    assert_adds_up(dense, alternating, diff(dense, alternating))
    assert len(asked) == 1 + 2


def test_modalities_that_are_alike_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[LayerFacts] = []
    operators = LayerFacts.operators

    def counted(facts: LayerFacts) -> dict[str, Operator]:
        looked.append(facts)
        return operators(facts)

    monkeypatch.setattr(LayerFacts, "operators", counted)

    def looks(modalities: int) -> int:
        names = [f"m{number}" for number in range(modalities)]
        partition = f"{{m0}} {{{', '.join(names[1:])}}}"
        text = f"""
model many {{
  width = 16
  layers = 4
  vocab = 9
  modality {", ".join(names)}
  attention {{ heads = 2 }}
  untie *.norm, attention.q as {partition} in layers 1..2
}}
"""
        checked = check(read(SourceFile("many.mot", text)))
        looked.clear()
        assert diff(final_ir(checked, dense=True), final_ir(checked))
        return len(looked)

    assert looks(64) == looks(2)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Any valid model of one to three of four modalities, with any sharing that its towers allow."""
    names = draw(st.lists(st.sampled_from(("text", "image", "speech", "state")), min_size=1, max_size=3, unique=True))
    own_vocab, width = draw(st.booleans()), draw(st.sampled_from((32, 64)))
    kinds = [
        Tower(
            width=width if own_vocab else draw(st.sampled_from((32, 64))),
            hidden=draw(st.sampled_from((96, 160))),
            kind=draw(st.sampled_from(("swiglu", "gelu"))),
            bias=draw(st.booleans()),
            qk_norm=draw(st.sampled_from((None, "rms", "layer"))),
            norm=draw(st.sampled_from(("rms", "layer"))),
        )
        for _ in range(2)
    ]
    towers = {name: draw(st.sampled_from(kinds)) for name in names}

    def blocks(paths: tuple[str, ...]) -> Mapping[str, Blocks]:
        found: dict[str, Blocks] = {}
        for path in paths:
            cells: dict[object, list[str]] = {}
            for name in names:
                apart = own_vocab and path in ("embedding", "head")
                key = name if apart else (draw(st.integers(0, 1)), towers[name])
                cells.setdefault(key, []).append(name)
            found[path] = tuple(tuple(cell) for cell in cells.values())
        return found

    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    return Recipe(
        towers=towers,
        runs=tuple((count, blocks(LAYER)) for count in counts),
        outer=blocks(OUTER),
        heads=draw(st.sampled_from((2, 4))),
        kv_heads=draw(st.sampled_from((1, 2))),
        head_dim=draw(st.sampled_from((8, 16))),
        rope=draw(st.sampled_from((None, ROPE))),
        vocab=None if own_vocab else draw(st.sampled_from((128, 512))),
        vocabs={name: draw(st.sampled_from((128, 256))) for name in names} if own_vocab else {},
        tied=draw(st.booleans()),
        final=draw(st.booleans()),
    )


@settings(max_examples=150, deadline=None)
@given(recipes(), recipes())
def test_edits_add_up_between_any_two_models(a: Recipe, b: Recipe) -> None:
    one, other = a.model(), b.model()
    edits = diff(one, other)
    assert_adds_up(one, other, edits)
    assert edits == diff(one, other)
    assert all(edit.describe() for edit in edits)


@settings(max_examples=150, deadline=None)
@given(recipes())
def test_parameters_follow_from_the_attributes(recipe: Recipe) -> None:
    model = recipe.model()
    parts = [layer_stretch(model, segment.layer, segment.count, {}) for segment in model.segments]
    assert sum(part.parameters() for part in (*parts, outer_stretch(model, {}))) == total_parameters(model)
    assert diff(model, model) == ()


def test_a_gate_that_only_some_towers_have_may_change_alone() -> None:
    text = """
model g {
  width = 32
  layers = 2
  vocab = 9
  modality text, image, speech
  attention { heads = 2 }
  tower a = text, image
  tower b = speech { ffn { kind = gelu } }
  untie ffn
  %s
}
"""
    before, after = (
        final_ir(check(read(SourceFile("g.mot", text % statement))))
        for statement in ("", "untie ffn.gate as {text} {image} {speech} in layer 0")
    )
    edits = diff(before, after)
    assert [(edit.subject, edit.layers) for edit in edits] == [("ffn.gate", (0, 0))]
    assert_adds_up(before, after, edits)
