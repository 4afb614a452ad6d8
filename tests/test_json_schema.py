"""The JSON schema for editors says of the shape of YAML what `motc check` says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from motc.schema import check, to_python
from motc.schema.json_schema import json_schema
from motc.schema.resolve import normalise
from motc.source import SourceFile, SpecError
from motc.syntax import read, read_file, write
from tests.test_docs import EXAMPLES, Example, identify

ROOT = Path(__file__).resolve().parent.parent
SPECS = sorted(ROOT.rglob("specs/**/*.mot"))
SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SHAPE = {"MOT007", "MOT021", "MOT022", "MOT023", "MOT024"}  # what the schema of either kind can say

TINY = "model: a\nwidth: 16\nlayers: 2\nvocab: 9\nmodalities: [text, image]\nattention: {heads: 4}\n"


def accepts(tree: Any) -> bool:
    return VALIDATOR.is_valid(tree)


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("example", EXAMPLES, ids=identify)
def test_specs_on_pages(example: Example) -> None:
    try:
        tree = read(SourceFile(example.file, example.text))
    except SpecError:
        return
    in_yaml = to_python(read(SourceFile("a.yaml", write(tree, "yaml"))))
    assert accepts(in_yaml) == (example.code not in SHAPE)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_shipped_specs_in_yaml(path: Path) -> None:
    assert accepts(to_python(read(SourceFile("a.yaml", write(read(read_file(path)), "yaml")))))


@pytest.mark.parametrize(
    "line",
    [
        "modalities: {text: {}, image: {}}",
        "untie: ffn",
        "untie: [ffn, {groups: [attention], as: [[text], [image]], layers: 1}]",
        "untie: {groups: [ffn], layers: 0..1}",
        "untie: []",
        "attention: {heads: 4, rope: none, qk_norm: none, mask: full}",
        "attention: {heads: 4, rope: {theta: 500000}, mask: {bidirectional: image, sees: {image: [image]}}}",
        "attention: {heads: 4, mask: {kind: blocks, blocks: [[text], image]}}",
        "towers: {gen: {modalities: [image], attention: {qk_norm: none}}}",
        "norm: {}",
        "untie: {groups: []}",
        "untie: {groups: ffn}",
        "untie: {as: [[text]]}",
        "untie: {groups: [ffn], layers: [0, 1]}",
        "untie: {groups: [ffn], layers: 0-1}",
        "untie: {groups: [ffn], layers: null}",
        "untie: {groups: [ffn], as: null}",
        "untie: {groups: [ffn], as: [text]}",
        "untie: 3",
        "modalities: []",
        "modalities: {}",
        "modalities: [text, text]",
        "modalities: [text, null]",
        "modalities: [text, class]",
        "modalities: {text: null}",
        "modalities: {state_dict: {}}",
        "modalities: {1a: {}}",
        "modalities: {text: {latent: {patch: 2}}}",
        "towers: {gen: {width: 8}}",
        "towers: {gen: {modalities: image}}",
        "towers: {choose: {modalities: [image]}}",
        "attention: {heads: 4, rope: 3}",
        "attention: {heads: 4, rope: some}",
        "attention: {heads: 4, qk_norm: rsm}",
        "attention: {heads: 4, mask: {bidirectional: null}}",
        "attention: {heads: 4, mask: {sees: {image: null}}}",
        "attention: {heads: 4, mask: {blocks: null}}",
        "attention: {heads: 4, mask: 3}",
        "attention: {kv_heads: 4}",
        "attention: 4",
        "width: '16'",
        "width: 0",
        "width: 16777217",
        "layers: true",
        "norm: {eps: 1}",
        "ffn:",
        "ffn: {bias: no}",
        "model: none",
        "model: 3",
        "language: 2",
        "modality: text",
    ],
)
def test_it_and_check_agree_on_a_line(line: str) -> None:
    kept = "".join(f"{each}\n" for each in TINY.splitlines() if each.partition(":")[0] != line.partition(":")[0])
    tree = read(SourceFile("a.yaml", f"{kept}{line}\n"))
    codes = set()
    try:
        check(normalise(tree))
    except SpecError as error:
        codes = {diagnostic.code for diagnostic in error.diagnostics}
    assert codes <= SHAPE
    assert accepts(to_python(tree)) == (not codes)


@pytest.mark.parametrize("key", ["model", "width", "layers", "modalities", "attention"])
def test_what_a_base_can_say_is_missing_only_where_nothing_is_extended(key: str) -> None:
    tree = to_python(read(SourceFile("a.yaml", TINY)))
    del tree[key]
    assert not accepts(tree)
    assert accepts(tree | {"extends": "base.mot"})
    assert accepts({"extends": "base.mot", "attention": {"bias": True}, "towers": {"gen": {"width": 8}}})
    assert not accepts({"extends": "base.mot", "untie": [{"layers": 3}]})
