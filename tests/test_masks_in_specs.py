"""Masks in specs: both syntaxes, what they mean in the IR, what is refused and where, bases, overrides and diffs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from motc.diff import diff
from motc.driver import final_ir
from motc.ir.execution import Strategy
from motc.ir.mask import Mask
from motc.ir.model import Model
from motc.ir.print import print_ir
from motc.lower import lower
from motc.lower.resolved import resolved
from motc.reference import ReferenceMask
from motc.schema import Spec, check
from motc.schema.resolve import resolve
from motc.source import SourceFile, SpecError
from motc.syntax import format_source, read, write
from motc.validate.config import reference_config
from motc.validate.reduce import reduce
from tests.fuzz.properties import obeys_every_law
from tests.handmade import Recipe, Tower

SPEC = """model masked {{
  width = 16, layers = 2, vocab = 8
  modality text, vit, vae
  tower und = text, vit
  tower gen = vae
  untie ffn
  attention {{ heads = 2, {mask} }}
}}
"""


def compiled(source: SourceFile, dense: bool = False) -> Model:
    return final_ir(check(read(source)), dense=dense)


def mask_of(model: Model) -> Mask:
    (mask,) = model.masks
    return mask


def mot(mask: str) -> SourceFile:
    return SourceFile("masked.mot", SPEC.format(mask=mask))


SAID = [
    ("mask = causal", "causal"),
    ("mask = full", "full"),
    ("bias = false", "causal"),
    ("mask {}", "causal"),
    ("mask { kind = full }", "full"),
    ("mask { kind = prefix, prefix = vit }", "prefix {vit}"),
    ("mask { kind = prefix, prefix = [gen, text] }", "prefix {text vae}"),
    ("mask { kind = prefix, prefix = [gen, und] }", "full"),
    ("mask { kind = prefix, prefix = [] }", "causal"),
    ("mask { bidirectional = gen }", "causal, bidirectional {vae}"),
    ("mask { kind = prefix, prefix = text, bidirectional = [vae, vit] }", "prefix {text}, bidirectional {vit vae}"),
    ("mask { kind = causal, bidirectional = [], blocks = [] }", "causal"),
    ("mask { runs = und }", "causal, runs {text vit}"),
    ("mask { bidirectional = gen, delimiters = true }", "causal, bidirectional {vae}, with delimiters"),
    ("mask { runs = und, delimiters = true }", "causal, runs {text vit}, with delimiters"),
    ("mask { bidirectional = [und, gen], delimiters = true }", "causal, bidirectional {text vit vae}"),
    ("mask { runs = [[vae, vit], text] }", "causal, bidirectional {text}, runs {vit vae}"),
    ("mask { kind = prefix, prefix = [gen, und], runs = [und] }", "full"),
    ("mask { kind = blocks, blocks = [[vae, text], vit] }", "blocks {text vae} {vit}"),
    ("mask { kind = blocks, blocks = [gen, und] }", "blocks {vae} {text vit}"),
    ("mask { kind = blocks, blocks = [[und, gen]] }", "full"),
    ("mask { sees { und = und, gen = [und, gen] } }", "causal, text sees {text vit}, vit sees {text vit}"),
    ("mask { sees { gen = [gen, und], text = [text, vit, vae] } }", "causal"),
    ("mask { kind = full, sees { und = und } }", "blocks {text vit} {vae}"),
    ("mask { kind = full, sees { vit = vit, vae = vae } }", "full, vit sees {vit}, vae sees {vae}"),
    ("mask { kind = blocks, blocks = [text, vit, vae], sees { vae = [vae, text] } }",
     "full, text sees {text}, vit sees {text vit}, vae sees {text vae}"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "meant"), SAID)
def test_a_mask_in_both_syntaxes_and_the_dense_twin(said: str, meant: str) -> None:
    source = mot(said)
    model = compiled(source)
    assert str(mask_of(model)) == meant
    assert f"of 8, {meant}, rope" in print_ir(model)
    assert mask_of(compiled(source, dense=True)) == mask_of(model)
    tree = read(source)
    as_yaml = SourceFile("masked.yaml", write(tree, "yaml"))
    assert read(as_yaml) == tree
    assert compiled(as_yaml) == model
    assert read(SourceFile("masked.mot", write(tree, "mot"))) == tree
    for text in (source, as_yaml):
        formatted = SourceFile(text.name, format_source(text))
        assert read(formatted) == tree
        assert format_source(formatted) == formatted.text


def test_canonical_text() -> None:
    said = "mask { kind = blocks, blocks = [[ text,vit ],vae], sees {vit=[vit,gen]} }"
    assert """\
  attention {
    heads = 2
    mask { kind = blocks, blocks = [[text, vit], vae], sees { vit = [vit, gen] } }
  }
""" in format_source(mot(said))
    assert """\
attention:
  heads: 2
  mask: {kind: blocks, blocks: [[text, vit], vae], sees: {vit: [vit, gen]}}
""" in write(read(mot(said)), "yaml")


def test_the_name_of_a_modality_is_not_its_tower() -> None:
    text = "model a { width = 16; layers = 1; vocab = 8; modality text, image; tower text = text, image; "
    text += "attention { heads = 2, mask { bidirectional = text } } }"
    assert str(mask_of(compiled(SourceFile("a.mot", text)))) == "causal, bidirectional {text}"


# A ^ stands before each place that is told.
WRONG: list[tuple[str, list[tuple[str, str, str]]]] = [
    ("mask = ^casual", [("MOT023", "should be causal, full, prefix, blocks or a section, not `casual`", "`causal`")]),
    ("mask = ^3", [("MOT023", "should be causal", "")]),
    ("mask { ^knd = full }", [("MOT021", "unknown key", "`kind`")]),
    ("mask { kind = prefix, prefix = ^3 }", [("MOT023", "a name or a list of names", "")]),
    ("mask { kind = prefix, prefix = [^image] }", [("MOT044", "`image`", "text, vit, vae; towers: und, gen")]),
    ("mask { bidirectional = [text, ^va] }", [("MOT044", "`va`", "did you mean `vae`?")]),
    ("mask { kind = blocks, blocks = [und, [^gne]] }", [("MOT044", "`gne`", "did you mean `gen`?")]),
    ("mask { sees { ^txt = text, gen = [gen, ^unt] } }", [("MOT044", "`txt`", "`text`"), ("MOT044", "`unt`", "`und`")]),
    ("mask { kind = blocks, blocks = [und, [vae, ^text]] }", [("MOT043", "`text` is in two blocks", "one")]),
    ("mask { kind = blocks, blocks = [text, ^[]] }", [("MOT043", "empty", "name")]),
    ("mask { kind = blocks, blocks = ^[text] }", [("MOT043", "do not cover vit, vae", "[vit]")]),
    ("mask { kind = blocks, blocks = ^[] }", [("MOT043", "do not cover text, vit, vae", "[text]")]),
    ("mask = ^prefix", [("MOT054", "needs `prefix`", "prefix = text")]),
    ("mask { kind = ^blocks }", [("MOT054", "needs `blocks`", "[[text], [vit], [vae]]")]),
    ("mask { ^prefix = text }", [("MOT054", "kind causal", "kind = prefix")]),
    ("mask { kind = full, ^blocks = [und, gen] }", [("MOT054", "kind full", "kind = blocks")]),
    ("mask { kind = full, ^bidirectional = vit }", [("MOT054", "kind full", "kind = causal or prefix")]),
    ("mask { kind = blocks, blocks = [und, gen], ^bidirectional = vit }", [("MOT054", "kind blocks", "or prefix")]),
    (
        "mask { ^delimiters = true }",
        [("MOT054", "says nothing without runs", "use bidirectional or runs")],
    ),
    ("mask { kind = full, ^runs = und }", [("MOT054", "kind full", "kind = causal or prefix")]),
    ("mask { bidirectional = vit, runs = [[vae, ^vit]] }", [("MOT043", "`vit` is in runs twice", "keep it in one")]),
    ("mask { runs = [und, ^vit] }", [("MOT043", "`vit` is in runs twice", "keep it in one")]),
    ("mask { runs = [[text, ^vea]] }", [("MOT044", "`vea`", "did you mean `vae`?")]),
    ("mask { runs = [text, ^[]] }", [("MOT043", "a run is empty", "name")]),
    ("mask { sees { und = und, ^text = text } }", [("MOT054", "`und` and by `text`", "keep one")]),
    ("mask { sees { und = ^text } }", [("MOT055", "`vit` does not see itself", "add vit")]),
    ("mask { sees { gen = ^[] } }", [("MOT055", "`vae` does not see itself", "add vae")]),
    (
        "mask { kind = full, ^prefix = text, sees { vae = ^und } }",
        [("MOT054", "kind full", ""), ("MOT055", "`vae`", "")],
    ),
]


@pytest.mark.parametrize(("marked", "expected"), WRONG)
def test_a_mistake_is_told_where_it_is(marked: str, expected: list[tuple[str, str, str]]) -> None:
    before, *rest = SPEC.format(mask=marked).split("^")
    places = [len(before)]
    for text in rest[:-1]:
        places.append(places[-1] + len(text))
    with pytest.raises(SpecError) as caught:
        lower(check(read(mot(marked.replace("^", "")))))
    diagnostics = caught.value.diagnostics
    assert [d.code for d in diagnostics] == [code for code, *_ in expected]
    assert [d.span.start for d in diagnostics if d.span] == places
    for diagnostic, (_, words, way_out) in zip(diagnostics, expected, strict=True):
        assert words in diagnostic.message
        assert way_out in diagnostic.help


def test_the_schema_for_editors_knows_the_word_and_the_section() -> None:
    mask = Spec.model_json_schema()["$defs"]["AttentionSpec"]["properties"]["mask"]
    assert mask["anyOf"] == [
        {"enum": ["causal", "full", "prefix", "blocks"], "type": "string"},
        {"$ref": "#/$defs/MaskSpec"},
    ]


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


BASE_PREFIX = "mask { kind = prefix, prefix = vit }"


@pytest.mark.parametrize(
    ("base", "over", "overrides", "meant"),
    [
        ("mask = full", "mask { sees { text = text } }", {}, "blocks {text} {vit vae}"),
        (BASE_PREFIX, "mask { bidirectional = gen }", {}, "prefix {vit}, bidirectional {vae}"),
        (BASE_PREFIX, "mask = causal", {}, "causal"),
        (BASE_PREFIX, "mask { kind = causal, prefix = [] }", {}, "causal"),
        (BASE_PREFIX, "bias = true", {"attention.mask": "full"}, "full"),
        (BASE_PREFIX, "bias = true", {"attention.mask.prefix": "und"}, "prefix {text vit}"),
        ("mask = full", "bias = true", {"attention.mask.sees.vit": "vit"}, "blocks {vit} {text vae}"),
    ],
)
def test_a_word_replaces_a_mask_and_a_section_is_merged_with_it(
    base: str, over: str, overrides: dict[str, Any], meant: str, tmp_path: Path
) -> None:
    written(tmp_path, "base.mot", SPEC.format(mask=base))
    path = written(tmp_path, "over.mot", f'model over {{ extends "base.mot"; attention {{ {over} }} }}')
    model = final_ir(check(resolve(path, overrides)))
    assert str(mask_of(model)) == meant


def test_resolved_says_where_a_word_stands() -> None:
    values = {key: (value, origin) for key, value, origin in resolved(check(read(mot("mask = full"))))}
    assert values["attention.mask.kind"] == ("full", "masked.mot:7")
    assert values["attention.mask.prefix"] == (None, "default")
    said = "mask { kind = causal, sees { text = text } }"
    values = {key: (value, origin) for key, value, origin in resolved(check(read(mot(said))))}
    assert values["attention.mask.kind"] == ("causal", "masked.mot:7")
    assert values["attention.mask.sees.text"] == (["text"], "masked.mot:7")


def test_the_reference_is_told_and_a_smaller_spec_keeps_the_mask() -> None:
    checked = check(read(mot("mask { bidirectional = gen, sees { und = und } }")))
    model = final_ir(checked)
    layer = reference_config(model).layers[0]
    seen = ("text", "vit")
    assert layer.sublayers[0].body.mask == ReferenceMask(
        kind="causal", bidirectional=("vae",), sees={"text": seen, "vit": seen}
    )
    small = final_ir(reduce(checked))
    assert mask_of(small) == mask_of(model)


@pytest.mark.laws
@pytest.mark.parametrize("strategy", ["sorted", "blend", "grouped", "reference"])
def test_every_law_of_runs_with_their_delimiters(strategy: Strategy) -> None:
    spec = check(read(mot("window = 4, mask { bidirectional = vae, delimiters = true }")))
    obeys_every_law(final_ir(reduce(spec), strategy=strategy), final_ir(reduce(spec), dense=True), seed=4)


def edits(a: Recipe, b: Recipe) -> list[tuple[str, str, str]]:
    return [(edit.subject, edit.before, edit.after) for edit in diff(a.model(), b.model())]


def test_a_diff_tells_another_mask_and_follows_names_and_order() -> None:
    two = Recipe(mask=Mask(kind="prefix", prefix=("image",)))
    assert edits(Recipe(), two) == [("attention.mask", "causal", "prefix {image}")]
    renamed = Recipe(towers={"text": Tower(), "picture": Tower()}, mask=Mask(kind="prefix", prefix=("picture",)))
    assert edits(two, renamed) == [("modality", "image", "picture")]
    both = Mask(kind="causal", bidirectional=("text", "image"))
    swapped = Recipe(towers={"image": Tower(), "text": Tower()}, mask=both.simplified(("image", "text")))
    assert [subject for subject, *_ in edits(Recipe(mask=both), swapped)] == ["order of modalities"]
    assert edits(two, replace(two, mask=Mask(kind="full"))) == [("attention.mask", "prefix {image}", "full")]
