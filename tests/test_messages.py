"""Mistakes as they are printed: in the words of the language, with the caret under what is wrong, and a way out."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from motc.cli import main
from motc.driver import check_spec, final_ir
from motc.ir.feed_forward import FfnKind
from motc.schema import check
from motc.schema.resolve import normalise
from motc.source import Diagnostic, SourceFile, Span, SpecError
from motc.source.nearest import nearest
from motc.syntax import read

MOT = ["width = 16", "layers = 2", "vocab = 9", "modality text, image", "attention { heads = 4 }"]
YAML = ["model: a", "width: 16", "layers: 2", "vocab: 9", "modalities: [text, image]", "attention: {heads: 4}"]


def told(name: str, text: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(SpecError) as caught:
        final_ir(check(normalise(read(SourceFile(name, text)))))
    return caught.value.diagnostics


def spec_with(line: str, syntax: str) -> str:
    """A small spec with this line in place of its own that starts with the same word."""
    own, separator = (MOT, r"\W") if syntax == "mot" else (YAML, ":")
    word = re.split(separator, line)[0]
    lines = [line, *(each for each in own if re.split(separator, each)[0] != word)]
    return "model a {\n" + "\n".join(lines) + "\n}\n" if syntax == "mot" else "\n".join(lines) + "\n"


def assert_told(syntax: str, marked: str, message: str, way_out: str) -> None:
    """`marked` has a ^ before what the caret should point at."""
    text = spec_with(marked.replace("^", ""), syntax)
    first, *rest = told(f"a.{syntax}", text)
    assert not rest, rest
    assert first.message == message
    assert first.help == way_out
    assert first.span is not None
    line = marked.replace("^", "")
    assert first.span.start - text.index(line) == marked.index("^")


KEYS = "known keys here: "
ROOT_KEYS = (
    "attention,{} embedding, extends, ffn, head, language, layers, {}, model, norm, parallel, positions, residual, {}, "
    "untie, "
    "vocab, width"
)
GATES = "leave it out, or use a kind with a gate, such as swiglu"
FFN_KINDS = ", ".join(get_args(FfnKind))
ROPE = "arrangement, axes, fraction, pairing, scaling, sections, theta"
ATTENTION = (
    "bias, clip, gate, head_dim, heads, kind, kv_heads, low_rank, mask, out_bias, out_gate, qk_norm, qk_norm_eps, "
    "rope, scale, sinks, softcap, value_dim, window"
)


@pytest.mark.parametrize(
    "mot, yaml, message, way_out",
    [
        # values of the wrong kind
        ("attention = ^3", "attention: ^3", "`attention` should be a section, not 3", f"its keys: {ATTENTION}"),
        ("attention { heads = 4, rope = ^3 }", "attention: {heads: 4, rope: ^3}",
         "`attention.rope` should be none or a section, not 3", f"its keys: {ROPE}"),
        ("attention { heads = 4, rope = ^nnoe }", "attention: {heads: 4, rope: ^nnoe}",
         "`attention.rope` should be none or a section, not `nnoe`", "did you mean `none`?"),
        ("attention { heads = 4, qk_norm = ^rsm }", "attention: {heads: 4, qk_norm: ^rsm}",
         "`attention.qk_norm` should be none, rms, layer or a section, not `rsm`", "did you mean `rms`?"),
        ("attention { heads = 4, mask = ^3 }", "attention: {heads: 4, mask: ^3}",
         "`attention.mask` should be causal, full, prefix, blocks or a section, not 3",
         "its keys: bidirectional, blocks, delimiters, detach, hide_noised, kind, prefix, runs, sees"),
        ("attention { heads = ^True }", "attention: {heads: ^True}",
         "`attention.heads` should be a whole number, not `True`", "heads: query heads, the same for all towers"),
        ("tower t = text { attention { heads = ^many } }",
         "towers: {t: {modalities: [text], attention: {heads: ^many}}}",
         "`towers.t.attention.heads` should be a whole number, not `many`",
         "heads: query heads, the same for all towers"),
        ("norm { final = ^maybe }", "norm: {final: ^maybe}",
         "`norm.final` should be true, false or a section, not `maybe`",
         "final: a norm before the head: `true`, `false`, or a section of what it has otherwise than the other norms; "
         "default: unless `placement = post`"),
        ("ffn { kind = ^SwiGLU }", "ffn: {kind: ^SwiGLU}",
         f"`ffn.kind` should be {FFN_KINDS}, moe or none, not `SwiGLU`", "did you mean `swiglu`?"),
        ("ffn { bias = ^yes }", "ffn: {bias: ^yes}", "`ffn.bias` should be true or false, not `yes`",
         "did you mean `true`?"),
        ("embedding { tied = ^True }", "embedding: {tied: ^True}",
         "`embedding.tied` should be true or false, not `True`", "did you mean `true`?"),
        ("embedding { tied = ^No }", "embedding: {tied: ^No}", "`embedding.tied` should be true or false, not `No`",
         "did you mean `false`?"),
        ('width = ^"16"', "width: ^'16'", "`width` should be a whole number, not `16`", "leave out the quotes"),
        ("width = ^16.0", "width: ^16.0", "`width` should be a whole number, not 16.0", "write 16"),
        ("width = ^0", "width: ^0", "`width` should be at least 1, not 0", ""),
        ("width = ^[16]", "width: ^[16]", "`width` should be a whole number, not a list",
         "width: width of the residual stream"),
        ("layers = ^5000", "layers: ^5000", "`layers` should be at most 4096, not 5000", ""),
        ("norm { eps = ^2 }", "norm: {eps: ^2}", "`norm.eps` should be less than 1, not 2", ""),
        ("norm { eps = ^small }", "norm: {eps: ^small}", "`norm.eps` should be a number, not `small`",
         "eps: added to the variance (`rms`: to the mean square)"),
        ("language = ^2", "language: ^2", "`language` should be 1, not 2", ""),
        ("ffn = ^null", "ffn: ^null", "`ffn` should be a section, not null",
         "write {} for a section that says nothing"),
        # nothing, where a name is meant
        ("attention { heads = 4, mask { bidirectional = ^null } }", "attention: {heads: 4, mask: {bidirectional: ^~}}",
         "null names nothing", "leave the key out, or name something"),
        ("attention { heads = 4, mask { kind = prefix, prefix = ^null } }",
         "attention: {heads: 4, mask: {kind: prefix, prefix: ^}}",
         "null names nothing", "leave the key out, or name something"),
        ("attention { heads = 4, mask { sees { image = [^null] } } }",
         "attention: {heads: 4, mask: {sees: {image: [^null]}}}",
         "`attention.mask.sees.image` should be a name, not null", ""),
        ("attention { heads = 4, mask { bidirectional = ^true } }",
         "attention: {heads: 4, mask: {bidirectional: ^true}}",
         "`attention.mask.bidirectional` should be a name or a list of names, not true", ""),
        # unknown keys
        ("attention { ^haeds = 4, heads = 4 }", "attention: {^haeds: 4, heads: 4}", "unknown key `haeds`",
         "did you mean `heads`?"),
        ("attention { ^num_heads = 4, heads = 4 }", "attention: {^num_heads: 4, heads: 4}", "unknown key `num_heads`",
         "did you mean `heads`?"),
        ("attention { heads = 4, ^alibi = 4 }", "attention: {heads: 4, ^alibi: 4}", "unknown key `alibi`",
         KEYS + ATTENTION),
        ("ffn { ^window = 4 }", "ffn: {^window: 4}", "unknown key `window`",
         KEYS + "balance, bias, capacity_factor, correction, expert, experts, group_score, groups, hidden, kind, "
         "normalise, out_gate, routed_scale, router_bias, routing, scores, shared_experts, shared_gate, shared_hidden, "
         "top_groups, top_k"),
        ("norm { ^shape = 3 }", "norm: {^shape: 3}", "unknown key `shape`",
         KEYS + "adaptive, bias, embedding, eps, final, kind, offset, placement, weight"),
        ("^heads = 4", "^heads: 4", "unknown key `heads`", "did you mean `attention.heads`?"),
        ("^kind = gelu", "^kind: gelu", "unknown key `kind`",
         "did you mean `attention.kind`, `attention.qk_norm.kind`, `attention.mask.kind`, "
         "`attention.rope.scaling.kind`, `ffn.kind`, `norm.kind` or `norm.final.kind`?"),
        ("tower gen = image { ^hidden = 3 }", "towers: {gen: {modalities: [image], ^hidden: 3}}",
         "unknown key `hidden`", "did you mean `ffn.hidden`?"),
        ("tower ffn = image { ^window = 3 }", "towers: {ffn: {modalities: [image], ^window: 3}}",
         "unknown key `window`", KEYS + "attention, ffn, modalities, norm, width"),
        # what is missing
        ("attention^ { }", "^attention: {}", "`attention.heads` is missing", "add `heads`, here or in the base spec"),
    ],
)  # fmt: skip
def test_a_mistake_in_both_syntaxes(mot: str, yaml: str, message: str, way_out: str) -> None:
    if message == "`attention.heads` is missing":
        mot = "^attention { }"
    assert_told("mot", mot, message, way_out)
    assert_told("yaml", yaml, message, way_out)


@pytest.mark.parametrize(
    "syntax, marked, message, way_out",
    [
        # a word where its section is meant, and a key of a section beside it
        ("mot", "norm = ^layer", "`norm` should be a section, not `layer`", "did you mean `norm { kind = layer }`?"),
        ("yaml", "norm: ^layre", "`norm` should be a section, not `layre`", "did you mean `norm: {kind: layer}`?"),
        ("mot", "ffn = ^moe", "`ffn` should be a section, not `moe`", "did you mean `ffn { kind = moe }`?"),
        ("mot", "attention { heads = 4, rope = ^half }", "`attention.rope` should be none or a section, not `half`",
         "did you mean `rope { pairing = half }`?"),
        ("mot", "embedding = ^tied", "`embedding` should be a section, not `tied`",
         "did you mean `embedding { tied = true }`?"),
        ("mot", "tower t = text { ffn = ^gelu }", "`towers.t.ffn` should be a section, not `gelu`",
         "did you mean `ffn { kind = gelu }`?"),
        ("mot", "^ffn.kind = gelu", "unknown key `ffn.kind`", "did you mean `ffn { kind = gelu }`?"),
        ("yaml", "^ffn.kinds: gelu", "unknown key `ffn.kinds`", "did you mean `ffn: {kind: gelu}`?"),
        ("mot", "tower t = text { ^attention.qk_norm = rms }", "unknown key `attention.qk_norm`",
         "did you mean `attention { qk_norm = rms }`?"),
        ("mot", "^ffn.hidden = [3]", "unknown key `ffn.hidden`", "did you mean `ffn { hidden = … }`?"),
        ("mot", "tower t = text { ^ffn.bias = true }", "unknown key `ffn.bias`", "did you mean `ffn { bias = true }`?"),
        ("mot", f"^modality {', '.join(f'm{index}' for index in range(65))}",
         "`modalities` should be at most 64, not 65", ""),
        ("mot", "^cross_attention { }", "unknown key `cross_attention`",
         KEYS + ROOT_KEYS.format("", "modality", "tower")),
        ("yaml", "^cross_attention: {}", "unknown key `cross_attention`",
         KEYS + ROOT_KEYS.format(" by_layer,", "modalities", "towers")),
        ("yaml", "^modality: text", "unknown key `modality`", "did you mean `modalities`?"),
        ("yaml", "^tower: {}", "unknown key `tower`", "did you mean `towers`?"),
        ("mot", "^extend = base", "unknown key `extend`", "did you mean `extends`?"),
        ("mot", "tower ^gen { width = 8 }", "`towers.gen.modalities` is missing",
         "add `tower gen = NAME, …`, here or in the base spec"),
        ("yaml", "towers: {^gen: {width: 8}}", "`towers.gen.modalities` is missing",
         "add `modalities`, here or in the base spec"),
        ("mot", "layer 0 { ^shape = 8 }", "unknown key `shape`", KEYS + "attention, ffn, norm, parallel, tower"),
        ("yaml", "by_layer: {layers: 0, ^shape: 8}", "unknown key `shape`",
         KEYS + "attention, ffn, layers, norm, parallel, towers"),
        ("yaml", "head: {scale: ^1/8}", "`head.scale` should be a number, not `1/8`", "write 0.125"),
        ("mot", "vocab = ^64*1024", "`vocab` should be a whole number, not `64*1024`", "write 65536"),
        ("yaml", "modalities: ^text", "`modalities` should be a list of names, or a section, not `text`", ""),
        ("yaml", "modalities: [text, ^null]", "`modalities` has something in its list that is no name",
         "name each modality"),
        ("yaml", "modalities: [text, ^text]", "`text` is given twice", "keep one of the two"),
        ("yaml", "modalities: {text: ^, image: {}}", "`modalities.text` should be a section, not null",
         "write {} for a section that says nothing"),
        ("yaml", "towers: {gen: {modalities: ^image}}",
         "`towers.gen.modalities` should be a list of names, not `image`", ""),
        ("yaml", "untie: {groups: ^ffn}", "`untie.groups` should be a list of selectors, not `ffn`", ""),
        ("yaml", "untie: {groups: [ffn], as: ^null}", "null names nothing", "leave the key out, or name something"),
        ("yaml", "untie: {groups: [ffn], as: [^text]}", "`untie.as` should be a list of names, not `text`", ""),
        ("yaml", "untie: {groups: [ffn], layers: ^null}",
         "layers are a number or a range, such as 3, 0..3 (both ends included) or 0..9 step 3",
         "layers count from 0; write a statement for each range of layers"),
        ("yaml", "untie: {groups: [ffn], layers: ^[0, 1]}",
         "layers are a number or a range, such as 3, 0..3 (both ends included) or 0..9 step 3",
         "layers count from 0; write a statement for each range of layers"),
        ("yaml", "untie: {groups: [ffn], layers: ^1..0}", "the range 1..0 is reversed", "write 0..1"),
        ("mot", "untie ffn in layers ^1..0", "the range 1..0 is reversed", "write 0..1"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_words_of_its_syntax(syntax: str, marked: str, message: str, way_out: str) -> None:
    assert_told(syntax, marked, message, way_out)


IS_NONE = "selector `{0}` matches nothing: this model has no {0}"
NO_LIST = "`{}` takes one layer or one range, not a list"
ONE_EACH = "write a range such as 0..2 or 0..8 step 4, or a statement for each"
NO_START = "`{}` starts no statement, nor is it followed by `=` or a block"


@pytest.mark.parametrize(
    "marked, message, way_out",
    [
        ("^modalty video", NO_START.format("modalty"), "did you mean `modality`?"),
        ("^modalities video, sound", NO_START.format("modalities"), "did you mean `modality`?"),
        ('^extend "a.mot"', NO_START.format("extend"), "did you mean `extends`?"),
        ("^unite ffn", NO_START.format("unite"), "did you mean `untie`?"),
        ("^towers gen = image", NO_START.format("towers"), "did you mean `tower`?"),
        ('"a b" = 3; ^unite ffn', NO_START.format("unite"), "did you mean `untie`?"),
        ("^ffn in layer 0 { }", "`ffn` is the same in all layers: only `untie` says in which",
         "did you mean `untie ffn in …`?"),
        ("untie ffn in layers ^0, 2", NO_LIST.format("in layers"), "write 0..2 step 2"),
        ("untie ffn in layers ^[1, 2, 3]", NO_LIST.format("in layers"), "write 1..3"),
        ("untie ffn in layers ^0..1, 3, 4", NO_LIST.format("in layers"), ONE_EACH),
        ("layers ^[0, 2] { ffn { hidden = 8 } }", NO_LIST.format("layers"), "write 0..2 step 2"),
        ("layers ^0, 2, 3 { ffn { hidden = 8 } }", NO_LIST.format("layers"), ONE_EACH),
        ("head { scale = ^1/8 }", "numbers are not computed", "write 0.125"),
        ("head { scale = ^64 / 4, bias = true }", "numbers are not computed", "write 16"),
        ("head { scale = ^256 ** -0.5 }", "numbers are not computed", "write 0.0625"),
        ("attention { heads = 4, mask = causal^(text) }",
         "unexpected `(`: expected `{`, `}`, `]`, `,`, a new line or `step`", ""),
        ("head { scale = ^sqrt(2) }", "numbers are not computed", "write the number that it is, such as 0.125"),
        ("width ^256", "unexpected `256`: expected `=` or `{`", "write `width = 256`"),
        ("modality ^= text", "unexpected `=`: expected a name or a number", "write `modality` without `=`"),
        ("vocab^: 3", "unexpected `:`: expected `=`, `{`, `}`, `,`, a new line, `as` or `in`",
         "in .mot a value follows `=`; with `:` a spec is YAML, and its file is called .yaml"),
        ("untie ffn ^layers 0", "unexpected `layers`: expected `}`, `,`, a new line, `as` or `in`",
         "write `in layers`"),
        ("tower g ^text", "unexpected `text`: expected `=`, `{`, `}`, `,` or a new line",
         "put `=` between: `tower g = text`"),
        ("untie ffn as ^text, image", "unexpected `text`: expected `{`", "blocks are in braces: `as {text} {image}`"),
        ("untie ffn as {text}, ^{image}", "unexpected `{`: expected a statement or `}`",
         "no comma stands between blocks: `as {text} {image}`"),
        ("untie ^all", "selector `all` matches no parameter group", "use `*`"),
        ("untie ffn as {text ^image}", "unexpected `image`: expected `}`, `,` or a new line",
         "put a comma between: `text, image`"),
        ("untie ffn ^norm", "unexpected `norm`: expected `}`, `,`, a new line, `as` or `in`",
         "put a comma between: `ffn, norm`"),
        ("ffn { hidden = 24 ^bias = true }", "unexpected `bias`: expected `}`, `,` or a new line",
         "put a comma between: `24, bias`"),
        # what statements name
        ("untie ffn as {text} {^imgae}", "no modality `imgae`", "did you mean `image`?"),
        ("untie ffn as {text} {^sound}", "no modality `sound`", "modalities: text, image"),
        ("untie ffn as ^{text}", "the partition does not cover image", "add {image} or put it in a block"),
        ("tower gen = ^imgae", "no modality `imgae`", "did you mean `image`?"),
        ("tower gen = image, ^image", "`image` is in tower gen twice", "keep it in one"),
        ("embedding { tied = true }; untie ^head",
         IS_NONE.format("head") + "; it is tied, and the embedding is its table",
         "untie the embedding, or use embedding.tied = false"),
        ("norm { final = false }; untie ^final_norm",
         IS_NONE.format("final_norm") + "; there is no norm before the head",
         "leave it out, or use norm.final = true"),
        ("untie ^embedding_norm", IS_NONE.format("embedding_norm") + "; tokens have no norm before the first layer",
         "leave it out, or use norm.embedding = true"),
        ("untie ^attention.q_norm", IS_NONE.format("attention.q_norm") + "; qk_norm is none",
         "leave it out, or use attention.qk_norm = rms"),
        ("ffn { kind = gelu }; untie ^ffn.gate", IS_NONE.format("ffn.gate") + "; its feed-forward is of kind gelu",
         GATES),
        ("ffn { kind = moe, experts = 2, expert = gelu }; untie ^ffn.gate",
         IS_NONE.format("ffn.gate") + "; its feed-forward is of kind gelu", GATES),
        ("tower all = text, image { ffn { kind = gelu } }; untie ^ffn.gate",
         IS_NONE.format("ffn.gate") + "; no tower's feed-forward has one", GATES),
        ("untie ^ffn.router", IS_NONE.format("ffn.router") + "; it has no mixture of experts",
         "leave it out, or use ffn.kind = moe"),
        ("untie ^ffn.shared.up", IS_NONE.format("ffn.shared.up") + "; it has no shared experts",
         "leave it out, or use ffn.shared_experts"),
        ("untie ^fnn", "selector `fnn` matches no parameter group", "did you mean `ffn`?"),
    ],
)  # fmt: skip
def test_a_mistyped_statement_is_told_as_what_it_was_meant_to_be(marked: str, message: str, way_out: str) -> None:
    assert_told("mot", marked, message, way_out)


@pytest.mark.parametrize(
    "line",
    [
        ", ".join(f"key_{index} = 1" for index in range(200)),
        f"untie {', '.join(f's{index}' for index in range(200))}",
        f"untie ffn as {'{text} ' * 200}",
        f"tower t = {', '.join(['text'] * 200)}",
        f"norm {{ {', '.join(['eps = 1e-5'] * 200)} }}",
    ],
)
def test_of_many_mistakes_the_first_are_told(line: str) -> None:
    text = "model a {\n" + "\n".join([*MOT, line]) + "\n}\n"
    with pytest.raises(SpecError) as caught:
        final_ir(check(normalise(read(SourceFile("a.mot", text)))))
    places = [diagnostic.span.start for diagnostic in caught.value.diagnostics if diagnostic.span]
    assert len(places) == 50 and places == sorted(places)
    assert caught.value.more in (149, 150)  # the first of what is given twice is right
    assert str(caught.value).splitlines()[-1] == f"and {caught.value.more} more mistakes, not told here"


def test_how_many_more_mistakes_there_are_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "a.mot"
    spec.write_text("model a {\n" + "\n".join([*MOT, *(f"key_{index} = 1" for index in range(51))]) + "\n}\n")
    for command in ("check", "show"):
        assert main([command, str(spec)]) == 1
        assert capsys.readouterr().err.endswith("\n\nand 1 more mistake, not told here\n")
        assert main([command, "--json", str(spec)]) == 1
        assert json.loads(capsys.readouterr().out)["more"] == 1


LONG = "a" * 5000


@pytest.mark.parametrize(
    "syntax, line",
    [
        ("mot", f"{LONG} = 3"),
        ("mot", f"{LONG} 3"),
        ("mot", f"width = {LONG}"),
        ("mot", f"tower t {LONG}"),
        ("mot", f"untie ffn as {{text {LONG}}}"),
        ("mot", f"untie {LONG}"),
        ("mot", f"untie ffn as {{{LONG}}}"),
        ("mot", f"tower t = {LONG}"),
        ("mot", f"modality {LONG}"),
        ("mot", f'modality "{"! " * 5000}"'),
        ("mot", f"ffn.{LONG} = 3"),
        ("mot", f"width = 1{'0' * 400}"),
        ("yaml", f"width: !{LONG} 3"),
        ("yaml", f"width: *{LONG}"),
        ("yaml", f"{LONG}: 1\n{LONG}: 1"),
    ],
)
def test_what_a_message_quotes_is_short(syntax: str, line: str) -> None:
    for each in told(f"a.{syntax}", spec_with(line, syntax)):
        assert len(each.message) < 200 and len(each.help) < 200, each.code


def test_a_long_line_before_a_mistake_is_not_searched(tmp_path: Path) -> None:
    assert told("a.mot", f"model a {{ {'a' * 400_000}(")[0].code == "MOT006"


def test_no_message_speaks_of_python() -> None:
    values = ["3", "word", "[1]", "{a: 1}", "null", "true", "1.5", "''"]
    keys = ["attention", "ffn", "modalities", "towers", "untie", "width", "attention: {rope", "attention: {mask: {sees"]
    keys += ["modalities: {text", "towers: {a", "towers: {a: {ffn", "untie: {groups: [a], as", "norm: {eps", "model"]
    for key in keys:
        for value in values:
            text = f"{key}: {value}{'}' * key.count('{')}\n"
            for diagnostic in told("a.yaml", text):
                assert not re.search(r"dictionary|instance|Spec\b|string|integer|\bInput\b|None", diagnostic.message)


@pytest.mark.parametrize(
    "word, known, suggestion",
    [
        ("haeds", "heads mask", "heads"),
        ("Heads", "heads mask", "heads"),
        ("n_layers", "layers width", "layers"),
        ("head", "heads head_dim", "heads"),
        ("window", "kind hidden", None),
        ("cross_attention", "attention ffn", None),
        ("d_model", "model width", None),
        ("c", "a b", None),
        ("va", "vae vit", "vae"),
        ("txt", "text image", "text"),
        ("x" * 100_000, "heads", None),
    ],
)
def test_only_a_slip_of_the_hand_is_near(word: str, known: str, suggestion: str | None) -> None:
    assert nearest(word, known.split()) == suggestion


ESCAPES = "\x1b]0;x\x07y"


def test_what_does_not_print_is_escaped_and_the_caret_stays_under_its_word(tmp_path: Path) -> None:
    source = SourceFile("a\x1b[31m.mot", f"幅 = 1, {ESCAPES} = 2, é\u202e = \t3\n")
    at = source.text.index(ESCAPES)
    span, last = Span(source, at, at + len(ESCAPES)), source.text.index("3")
    shown = Diagnostic(
        code="MOT021", message=f"unknown key `{ESCAPES}`\n", span=span, help=f"not {ESCAPES}",
        related=((f"as {ESCAPES}", Span(source, last, last + 1)),),
    ).render()  # fmt: skip
    assert shown.splitlines() == [
        "a\\u001b[31m.mot:1:8: MOT021 unknown key `\\u001b]0;x\\u0007y`\\n",
        "    幅 = 1, \\u001b]0;x\\u0007y = 2, é\\u202e =  3",
        "            ^^^^^^^^^^^^^^^^^",
        "a\\u001b[31m.mot:1:27: as \\u001b]0;x\\u0007y",
        "    幅 = 1, \\u001b]0;x\\u0007y = 2, é\\u202e =  3",
        "                                              ^",
        "  help: not \\u001b]0;x\\u0007y",
    ]


@pytest.mark.parametrize(
    "text",
    [
        'model a { "\\u001b]0;x\\u0007y" = 3 }',
        'model a { extends "\\u001b]0;x\\u0007y.mot" }',
        'model a { modality "\\u001b]0;x\\u0007y" }',
    ],
)
def test_no_spec_drives_the_terminal(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "a.mot"
    spec.write_text(text)
    assert main(["check", str(spec)]) == 1
    printed = capsys.readouterr().err
    assert "\\u001b]0;x\\u0007y" in printed
    assert all(char == "\n" or char.isprintable() for char in printed)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("width", np.float64(8.5), "`width` should be a whole number, not 8.5"),
        ("width", [8], "cannot set `width` to a value of type list"),
        ("width", np.zeros(2), "cannot set `width` to a value of type numpy.ndarray"),
        ("heads", 4, "unknown key `heads`"),
        ("norm", "layer", "`norm` should be a section, not `layer`"),
        ("a..b", 4, "cannot set `a..b`"),
        ("." * 5000, 4, f"cannot set `{'.' * 57}…`"),
        ("a" * 5000, 4, f"unknown key `{'a' * 57}…`"),
        ("width", "a" * 5000, f"`width` should be a whole number, not `{'a' * 57}…`"),
        ("a" + ".b" * 5000, 4, "a key of 5,001 parts is deeper than any in a spec"),
    ],
)
def test_overrides_that_cannot_be(key: str, value: Any, message: str, tmp_path: Path) -> None:
    spec = tmp_path / "a.mot"
    spec.write_text("model a {\n" + "\n".join(MOT) + "\n}\n")
    with pytest.raises(SpecError) as caught:
        check_spec(spec, {key: value})
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.message == message
    assert diagnostic.help or key == "width"


def test_overrides_are_numbers_of_any_library(tmp_path: Path) -> None:
    spec = tmp_path / "a.mot"
    spec.write_text("model a {\n" + "\n".join(MOT) + "\n}\n")
    checked = check_spec(spec, {"width": np.int64(8), "norm.eps": np.float32(0.5), "attention.rope.theta": Fraction(5)})
    assert (checked.spec.width, checked.spec.norm.eps) == (8, 0.5)
    assert checked.spec.attention.rope is not None and checked.spec.attention.rope.theta == 5


def test_only_what_is_quoted_is_cut() -> None:
    said = f"`a` and {'words ' * 40} and `{'b' * 100}`"
    message, cut = f"{said} or `{'b' * 101}`", f"{said} or `{'b' * 57}…`"
    assert Diagnostic(code="MOT021", message=message, span=None).message == cut


@pytest.mark.parametrize(
    "words",
    [
        ["explain", LONG],
        ["check", "a.mot", "--set", LONG],
        ["build", "a.mot", "--print-after", LONG],
        ["bench", "a.mot", "--ratios", LONG],
        ["validate", "a.mot", "--strategy", LONG],
        ["show", "a.mot", f"--{LONG}"],
        [LONG],
    ],
)
def test_what_a_usage_error_quotes_is_short(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mot").write_text("model a {\n" + "\n".join(MOT) + "\n}\n")
    assert main(words) == 2
    printed = capsys.readouterr().err
    assert "aaa" in printed and max(map(len, printed.splitlines())) < 300


def test_diff_takes_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "a.mot"
    spec.write_text("model a {\n" + "\n".join([*MOT, "untie ffn"]) + "\n}\n")
    assert main(["diff", str(spec), "--dense", "--set", "layers=5"]) == 2
    assert "layers 0..4" in capsys.readouterr().out
    assert main(["diff", str(spec), str(spec), "--set", "heads=5"]) == 1
    assert "did you mean `attention.heads`?" in capsys.readouterr().err
