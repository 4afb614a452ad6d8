"""What a spec says of some layers only."""

from __future__ import annotations

from pathlib import Path

import pytest

from motc.diff import diff
from motc.driver import check_spec, compile_ir, final_ir, generate_package
from motc.ir.attention import Attention
from motc.ir.attributes import LayerAttributes, layer_attributes
from motc.ir.model import Model
from motc.lower.resolved import resolved
from motc.schema.resolve import normalise
from motc.source import SourceFile, SpecError
from motc.syntax import convert, format_source, read
from motc.validate.reduce import reduce
from tests.fuzz.properties import forget_generated, obeys_every_law

SPEC = """
model layered {
  width = 16, layers = 8, vocab = 32
  modality text, image
  attention { heads = 2, rope { theta = 100, pairing = interleaved } }
  ffn { hidden = 24 }
  tower gen = image { ffn { hidden = 40 } }
  untie ffn, norm
  STATEMENTS
}
"""
CONTENTS = """
  layers 0..6 step 2 { attention { rope { theta = 7 } }, ffn { kind = gelu } }
  layers 3..5 { norm { eps = 0.25, placement = post } }
  layers 3..5 { tower gen { ffn { hidden = 48, bias = true }, norm { eps = 0.5 } } }
  layer 4 { attention { mask = full, rope = none }, tower text { ffn = none } }
  layer 7 { ffn = none, attention { head_dim = 4 } }
"""


def source(statements: str) -> SourceFile:
    return SourceFile("a.mot", SPEC.replace("STATEMENTS", statements))


def model_of(statements: str, *, dense: bool = False) -> Model:
    return compile_ir(source(statements), dense=dense)


def layers_of(model: Model) -> list[dict[str, LayerAttributes]]:
    return [
        layer_attributes(segment.layer, model.modalities)
        for segment in model.segments
        for _ in range(segment.first, segment.last + 1)
    ]


def attentions_of(model: Model) -> list[Attention]:
    return [segment.layer.attentions[0] for segment in model.segments for _ in range(segment.first, segment.last + 1)]


def test_a_statement_holds_in_its_layers_and_later_ones_win() -> None:
    model = model_of(CONTENTS)
    layers, attentions = layers_of(model), attentions_of(model)
    assert [each.rope and each.rope.theta for each in attentions] == [7, 100, 7, 100, None, 100, 7, 100]
    assert {each.rope.pairing for each in attentions if each.rope} == {"interleaved"}
    assert [each.mask.kind for each in attentions] == ["causal"] * 4 + ["full"] + ["causal"] * 3
    assert [each.head_dim for each in attentions] == [8] * 7 + [4]
    kinds = ["gelu", "swiglu", "gelu", "swiglu", None, "swiglu", "gelu", None]
    assert [each["text"].ffn_kind for each in layers] == kinds
    assert [each["image"].ffn_kind for each in layers] == [*kinds[:4], "gelu", *kinds[5:]]
    assert [each["image"].hidden for each in layers] == [40, 40, 40, 48, 48, 48, 40, 0]
    assert [each["image"].ffn_bias for each in layers] == [False] * 3 + [True] * 3 + [False] * 2
    assert [each["text"].norm_eps for each in layers] == [1e-5] * 3 + [0.25] * 3 + [1e-5] * 2
    assert [each["image"].norm_eps for each in layers] == [1e-5] * 3 + [0.5] * 3 + [1e-5] * 2
    assert [str(s.layer.placements) for s in model.segments] == ["pre"] * 3 + ["post"] * 3 + ["pre"] * 2


def test_what_is_said_of_a_section_as_a_whole_takes_its_place() -> None:
    first = attentions_of(
        model_of(
            "layers 0..5 { attention { rope = none } } layers 3..7 { attention { rope { theta = 5 } } }".replace(
                "} layers", "}\nlayers"
            )
        )
    )
    assert [each.rope and (each.rope.theta, each.rope.pairing) for each in first] == [
        *[None] * 3, *[(5, "half")] * 3, *[(5, "interleaved")] * 2
    ]  # fmt: skip
    spec = SPEC.replace("rope {", "mask { bidirectional = image }, rope {")
    kinds = "layer 1 { attention { mask = full } }\nlayer 2 { attention { mask { sees { image = image } } } }"
    masks = [
        str(each.mask) for each in attentions_of(compile_ir(SourceFile("a.mot", spec.replace("STATEMENTS", kinds))))
    ]
    runs = "causal, bidirectional {image}"
    assert masks[:4] == [runs, "full", f"{runs}, image sees {{image}}", runs]


@pytest.mark.laws
@pytest.mark.parametrize("dense", [False, True])
def test_such_models_obey_every_law(dense: bool) -> None:
    obeys_every_law(model_of(CONTENTS, dense=dense), model_of(CONTENTS, dense=True), seed=3)
    forget_generated()


@pytest.mark.laws
def test_experts_after_dense_layers_and_experts_beside_none() -> None:
    spec = """model mixed {
      width = 16, layers = 3, vocab = 32
      modality text, image, speech
      attention { heads = 2 }
      ffn { kind = moe, experts = 4, top_k = 2, hidden = 8, shared_experts = 1 }
      layer 0 { ffn { kind = geglu, hidden = 24 } }
      layer 2 { tower image { ffn = none }, tower speech { ffn { kind = gelu } } }
      untie ffn, norm
    }"""
    model, twin = (compile_ir(SourceFile("a.mot", spec), dense=dense) for dense in (False, True))
    assert [layer["text"].moe is None for layer in layers_of(model)] == [True, False, False]
    assert [layer["image"].ffn_kind for layer in layers_of(model)] == ["geglu", "swiglu", None]
    obeys_every_law(model, twin, seed=4)
    forget_generated()


def test_statements_of_a_spec_that_extends_come_after_those_of_the_base(tmp_path: Path) -> None:
    (tmp_path / "base.mot").write_text(source("layers 0..3 { ffn { hidden = 8 } }").text)
    (tmp_path / "over.yaml").write_text(
        "extends: base.mot\nby_layer: {layers: 2..5, ffn: {hidden: 12}, towers: {gen: {ffn: {hidden: 20}}}}\n"
    )
    layers = layers_of(compile_ir(tmp_path / "over.yaml", {"ffn.hidden": 36}))
    assert [each["text"].hidden for each in layers] == [8, 8, *[12] * 4, 36, 36]
    assert [each["image"].hidden for each in layers] == [40, 40, *[20] * 4, 40, 40]


def test_both_syntaxes_say_the_same_and_keep_their_comments() -> None:
    text = source("layers 0..6 step 2 { ffn = none } # why\n  layer 1 { tower gen { ffn { hidden = 8 } } }")
    yaml = SourceFile("a.yaml", convert(text, "yaml"))
    assert '  - {layers: "0..6 step 2", ffn: none}  # why\n' in yaml.text
    assert convert(yaml, "mot") == format_source(text)
    assert read(yaml) == normalise(read(text))
    assert "  layers 0..6 step 2 { ffn = none }  # why\n" in format_source(text)


def test_resolved_keys_tell_what_is_said_of_some_layers() -> None:
    keys = {
        key: value for key, value, _ in resolved(check_spec(source("layers 2..7 step 5 { attention { rope = none } }")))
    }
    assert keys["by_layer"] == [{"layers": "2..7 step 5", "attention": {"rope": "none"}}]


def test_differences_are_told_in_ranges() -> None:
    told = [edit.describe() for edit in diff(model_of(""), model_of("layers 2..4 { ffn { hidden = 8 } }"))]
    assert told == ["ffn.hidden of text: 24 → 8, layers 2..4, -2.3k parameters, -4.6k FLOPs a token (text)"]
    (edit,) = diff(model_of(""), model_of("layers 1..7 step 2 { attention { window = 4 } }"))
    assert edit.describe() == "attention.window: none → 4, layers 1..7 step 2, ±0 parameters, ±0 FLOPs a token"
    assert edit.to_json()["layers"] == [1, 7] and edit.to_json()["step"] == 2


def test_a_small_spec_keeps_the_kinds_of_layers() -> None:
    checked = check_spec(source(CONTENTS))
    small = reduce(checked)
    whole, reduced = final_ir(checked), final_ir(small)
    kinds = [[(path.path, path.partition()) for path in layer.leaves()] for layer, _ in whole.kinds]
    assert [[(path.path, path.partition()) for path in layer.leaves()] for layer, _ in reduced.kinds] == kinds
    many = check_spec(source("layers 1..7 step 2 { ffn { hidden = 8 } }"), {"layers": 60})
    assert final_ir(reduce(many)).layers == 4


def test_what_is_alike_is_the_same_model() -> None:
    assert generate_package(model_of("layers 0..7 { ffn { hidden = 24 } }")) == generate_package(model_of(""))
    one = "layers 1..3 { attention { rope { theta = 9 } } }"
    other = "\n".join(f"layer {n} {{ attention {{ rope {{ theta = 9.0 }} }} }}" for n in (1, 2, 3))
    assert generate_package(model_of(one)) == generate_package(model_of(other))


@pytest.mark.parametrize(
    ("statement", "code", "place"),
    [
        ("layers 5..^8 { ffn = none }", "MOT041", "5..8"),
        ("layers ^7..5 { ffn = none }", "MOT041", "7..5"),
        ("layers ^0..3 step 0 { ffn = none }", "MOT041", "0..3 step 0"),
        ("layer ^-1 { ffn = none }", "MOT023", "-1"),
        ("layer 1 { tower ^pen { ffn = none } }", "MOT044", "pen"),
        ("layer 1 { tower ^image { ffn = none } }", "MOT044", "image"),
        ("layer 1 { ^width = 8 }", "MOT021", "width"),
        ("layer 1 { norm { ^final = true } }", "MOT021", "final"),
        ("layer 1 { attention { kv_heads = ^3 } }", "MOT050", "3"),
        ("layer 1 { attention { head_dim = ^3 } }", "MOT052", "3"),
        ("layer 1 { attention { mask { kind = full, ^bidirectional = image } } }", "MOT054", "bidirectional"),
        ("layer 1 { ffn { kind = moe, experts = 2, top_k = ^3 } }", "MOT058", "3"),
        ("layer 1 { ffn { ^experts = 2 } }", "MOT057", "experts"),
        ("layer 1 { ffn { kind = ^moe } }", "MOT057", "moe"),
        ("layer 1 { ^tower gen { attention { bias = true } } }", "MOT046", None),
        ("untie ffn.up in layers ^0..9 step 3", "MOT041", "0..9 step 3"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_once_and_where_it_is(statement: str, code: str, place: str | None) -> None:
    with pytest.raises(SpecError) as caught:
        model_of(statement.replace("^", ""))
    (told,) = caught.value.diagnostics
    assert told.code == code and told.span is not None
    shown = told.span.source.text[told.span.start : told.span.end]
    if place is not None:
        assert shown == place
    start = told.span.source.text.index(statement.replace("^", ""))
    assert start <= told.span.start < start + len(statement)


def test_a_mistake_that_layers_make_shows_what_is_said_of_them() -> None:
    """The tower's words go before the layers', and its norm is not untied there."""
    with pytest.raises(SpecError) as caught:
        model_of(
            "layer 2 { ffn = none }\n  layer 2 { tower gen { ffn { kind = gelu } } }\n  untie norm as {text, image}"
        )
    (told,) = caught.value.diagnostics
    assert told.code == "MOT046" and told.message.endswith("one of them has none")
    words, span = told.related[-1]
    assert words == "what these layers have otherwise"
    assert span.source.text[span.start : span.end] == "none"


def test_an_override_of_layers_leaves_the_first_of_them() -> None:
    later = "layers 5..6 { norm { eps = 0.5 } }"
    said = f"layers 1..7 step 3 {{ ffn {{ hidden = 9 }} }}; {later}; layer 2 {{ ffn = none }}"
    said += "; untie attention in layers 2..7"
    fewer = final_ir(check_spec(source(said), {"layers": 5}))
    assert fewer == final_ir(check_spec(source(said.replace("..7", "..4").replace(later, "")), {"layers": 5}))
    whole = model_of(said)
    assert layers_of(fewer) == layers_of(whole)[:5]
    assert fewer.layers == 5 and final_ir(check_spec(source(said), {"layers": 12})).layers == 12
    with pytest.raises(SpecError) as caught:
        final_ir(check_spec(source("layers 6..2 { ffn = none }"), {"layers": 3}))
    assert "is reversed" in str(caught.value)


def test_layers_that_a_base_has_and_a_spec_that_extends_it_has_not(tmp_path: Path) -> None:
    (tmp_path / "base.mot").write_text(source("layer 5 { ffn { hidden = 9 } }").text)
    (tmp_path / "small.mot").write_text('model small { extends "base.mot"; layers = 3 }')
    with pytest.raises(SpecError) as caught:
        compile_ir(tmp_path / "small.mot")
    (told,) = caught.value.diagnostics
    assert told.code == "MOT041" and told.help.startswith("say 6 layers at least")
    assert [(words, Path(span.source.name).name) for words, span in told.related] == [
        ("how many there are", "small.mot")
    ]


def test_keys_that_say_nothing_where_a_later_statement_changes_the_kind_are_no_mistake() -> None:
    model = model_of(
        "layers 0..3 { ffn { kind = moe, experts = 2, top_k = 1 } }\n  layers 2..5 { ffn { kind = gelu } }"
    )
    layers = [each["text"] for each in layers_of(model)]
    assert [each.moe is not None for each in layers] == [True] * 2 + [False] * 6
    assert [each.ffn_kind for each in layers] == ["swiglu"] * 2 + ["gelu"] * 4 + ["swiglu"] * 2


def test_a_scaling_in_some_layers_is_said_as_a_whole() -> None:
    """Where the spec has none, and in place of one that it has."""
    scaling = "scaling { kind = linear, factor = 8 }"
    attentions = attentions_of(model_of(f"layer 2 {{ attention {{ rope {{ {scaling} }} }} }}"))
    assert [str(each.rope and each.rope.scaling) for each in attentions].count("None") == 7
    assert attentions[2].rope is not None and attentions[2].rope.scaling is not None
    assert (attentions[2].rope.theta, attentions[2].rope.scaling.factor) == (100, 8)


def test_layers_are_of_a_few_hundred_kinds_at_most() -> None:
    sizes = "".join(f"layer {i} {{ ffn {{ hidden = {i + 1} }} }}\n" for i in range(512))
    spec = f"model a {{ width = 2, layers = 2000, vocab = 3, modality t; attention {{ heads = 1 }}\n{sizes} }}"
    with pytest.raises(SpecError) as caught:
        compile_ir(SourceFile("a.mot", spec))
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.code, str(diagnostic.span)) == ("MOT088", "a.mot:1:31")
    assert diagnostic.message == "the layers are of 513 kinds, and may be of 512"
    assert compile_ir(SourceFile("a.mot", spec.replace("layer 511 {", "layer 510 {"))).layers == 2000
