"""Keys and words that other programs have, and keys that stand elsewhere: the message says what to write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from motc.ir.feed_forward import FfnKind
from motc.ir.layer import Placement
from motc.ir.model import Objective
from motc.ir.operators import NormKind
from motc.schema import elsewhere
from motc.schema.keys import dotted_keys
from motc.syntax.scalar import worked_out
from tests.test_messages import FFN_KINDS, assert_told

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "syntax, marked, message, way_out",
    [
        ("mot", "^hidden_size = 8", "unknown key `hidden_size`", "did you mean `width = 8`?"),
        ("mot", "attention { heads = 4, ^num_key_value_heads = 2 }", "unknown key `num_key_value_heads`",
         "did you mean `kv_heads = 2`?"),
        ("yaml", "attention: {heads: 4, rope: {^sliding_window: 2}}", "unknown key `sliding_window`",
         "did you mean `attention: {window: 2}`?"),
        ("mot", "^rope_theta = 10", "unknown key `rope_theta`", "did you mean `attention { rope { theta = 10 } }`?"),
        ("yaml", "towers: {t: {modalities: [image], ffn: {^Intermediate_Size: 8}}}",
         "unknown key `Intermediate_Size`", "did you mean `hidden: 8`?"),
        ("mot", "tower t = image { ffn { ^attention_bias = true } }", "unknown key `attention_bias`",
         "did you mean `attention { bias = true }`?"),
        # keys that the model has, and a tower or some layers have not
        ("mot", "tower t = image { attention { ^window = 4 } }", "unknown key `window`",
         "it is the same in all towers: `attention { window = 4 }`"),
        ("yaml", "towers: {t: {modalities: [image], ^vocab: 9}}", "unknown key `vocab`",
         "it is the same in all towers: `vocab: 9`"),
        ("mot", "layer 0 { norm { ^final = true } }", "unknown key `final`",
         "it is the same in all layers: `norm { final = true }`"),
        ("mot", "layer 0 { tower image { norm { ^placement = post } } }", "unknown key `placement`",
         "it is the same in all towers: `norm { placement = post }`"),
        # keys that a tower has, and the model or some layers have not
        ("mot", "attention { heads = 4, ^reads = text }", "unknown key `reads`",
         "it is said of a tower, in its block: `attention { reads = text }`"),
        ("yaml", "by_layer: {layers: 0, attention: {^reads: text}}", "unknown key `reads`",
         "it is said of a tower, in its block: `attention: {reads: text}`"),
        # by what they are set to, and by their section
        ("mot", "norm { ^type = rms }", "unknown key `type`", "did you mean `kind = rms`?"),
        ("mot", "attention { heads = 4, rope { ^interleaved = true } }", "unknown key `interleaved`",
         "did you mean `pairing = interleaved`?"),
        ("mot", "attention { heads = 4, qk_norm { kind = rms, ^eps = 1e-6 } }", "unknown key `eps`",
         "did you mean `qk_norm_eps = 1e-6`, beside `qk_norm`?"),
    ],
)  # fmt: skip
def test_a_key_is_told_where_it_belongs(syntax: str, marked: str, message: str, way_out: str) -> None:
    assert_told(syntax, marked, message, way_out)


@pytest.mark.parametrize(
    "mot, yaml, message, way_out",
    [
        ("attention { heads = 4, ^qk_nope_head_dim = 8 }", "attention: {heads: 4, ^qk_nope_head_dim: 8}",
         "unknown key `qk_nope_head_dim`",
         "attention.head_dim is this and attention.low_rank.rope_dim together"),
        ("ffn { kind = ^gelu_pytorch_tanh }", "ffn: {kind: ^gelu_pytorch_tanh}",
         f"`ffn.kind` should be {FFN_KINDS}, moe or none, not `gelu_pytorch_tanh`",
         "did you mean `gelu_tanh`, or with a gate `geglu_tanh`?"),
        ("modality text { features { size = 3, projector { kind = ^gelu_new } } }",
         "modalities: {text: {features: {size: 3, projector: {kind: ^gelu_new}}}}",
         "`modalities.text.features.projector.kind` should be linear, silu, gelu, gelu_tanh, quick_gelu, relu or "
         "relu2, not `gelu_new`", "did you mean `gelu_tanh`?"),
        ("norm { kind = ^RMSNorm }", "norm: {kind: ^RMSNorm}", "`norm.kind` should be rms or layer, not `RMSNorm`",
         "did you mean `rms`?"),
    ],
)  # fmt: skip
def test_what_has_no_key_of_the_same_value(mot: str, yaml: str, message: str, way_out: str) -> None:
    assert_told("mot", mot, message, way_out)
    assert_told("yaml", yaml, message, way_out)


def test_what_other_programs_say_is_no_key_of_the_language_and_means_one() -> None:
    known, last = dotted_keys(()), {key.split(".")[-1] for key in dotted_keys(())}
    assert set(elsewhere.KEYS.values()) <= set(known)
    assert not {*elsewhere.KEYS, *elsewhere.WAYS_OUT} & {*known, *last}
    for way_out in elsewhere.WAYS_OUT.values():
        for key in re.findall(r"\b(?:attention|ffn|head|positions)\.[a-z_.]*[a-z_]", way_out):
            assert key in known or key in ("attention.out", "ffn.down"), key
    meant = {word for words in elsewhere.WORDS.values() for word in words.split()}
    assert meant <= {word for kind in (FfnKind, NormKind, Placement, Objective) for word in get_args(kind)}
    assert not meant & {*elsewhere.WORDS}


WORKED_OUT = {"1/8": "0.125", "64 * 1024": "65536", "256**-0.5": "0.0625"}
NOT_WORKED_OUT = ("1e5/2", "1/0", "9**9999", "1..2/3", "0**-1", "a/b", "3")


@pytest.mark.parametrize("text", [*WORKED_OUT, *NOT_WORKED_OUT])
def test_a_number_is_worked_out_for_a_message(text: str) -> None:
    assert worked_out(text) == WORKED_OUT.get(text, "")


def test_the_docs_have_the_same_names_for_keys() -> None:
    text = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
    section = text.partition("## From a configuration of transformers")[2].partition("\n## ")[0]
    named: dict[str, list[str]] = {}
    for row in section.splitlines():
        if row.startswith("| `"):
            _, there, here, _ = row.split("|")
            named |= dict.fromkeys(re.findall("`(.*?)`", there), re.findall(r"`([a-z_.]+)`", here))
    assert named.keys() == elsewhere.KEYS.keys()
    for name, meant in elsewhere.KEYS.items():
        assert meant in named[name], name
