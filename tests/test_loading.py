"""`motc.load`: paths, texts and dicts, and arguments that are wrong."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import motc
from motc.schema import to_python
from motc.source import SourceFile, SpecError
from motc.syntax import read
from motc.syntax.given import spec_source

MOT = """model small {
  width = 16
  layers = 1
  modality text { vocab = 8 }
  modality image { vocab = 6 }
  attention { heads = 2 }
  ffn { hidden = 24 }
  norm { eps = 1e-6 }
  untie ffn as {text} {image} in layers 0..0
}
"""

YAML = """# a comment: with a colon
model: small
width: 16
layers: 1
modalities: {text: {vocab: 8}, image: {vocab: 6}}
attention: {heads: 2}
ffn: {hidden: 24}
norm: {eps: 1e-6}
untie:
  - {groups: [ffn], as: [[text], [image]], layers: 0..0}
"""

DICT: dict[str, Any] = {
    "model": "small",
    "width": numpy.int64(16),
    "layers": 1,
    "modalities": {"text": {"vocab": 8}, "image": {"vocab": 6}},
    "attention": {"heads": 2},
    "ffn": {"hidden": 24},
    "norm": {"eps": numpy.float64(1e-6)},
    "untie": ({"groups": ["ffn"], "as": [["text"], ["image"]], "layers": "0..0"},),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "small.mot"
    path.write_text(MOT)
    return path


def load(*args: Any, **kwargs: Any) -> Any:
    return motc.load(*args, **{"device": "meta", **kwargs})


@pytest.mark.parametrize(
    "given",
    [
        MOT,
        " ".join(MOT.replace("\n  ", "; ").split()).replace("{;", "{"),
        f"# a comment: with a colon\n\n{MOT}",
        MOT.replace("\n", "\r\n"),
        YAML,
        f"---\n{YAML}",
        DICT,
    ],
    ids=["mot", "one line", "comment", "windows", "yaml", "document", "dict"],
)
def test_a_text_and_a_dict_give_what_the_file_gives(given: Any, path: Path) -> None:
    assert load(given).semantic_hash == load(path).semantic_hash == load(str(path)).semantic_hash


def test_what_extends_in_a_text_is_relative_to_the_working_directory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    text, tree = load('model a { extends "small.mot" }'), load({"model": "a", "extends": Path("small.mot")})
    assert text.semantic_hash == tree.semantic_hash == load(path).semantic_hash
    with pytest.raises(SpecError, match=r"^<text>\.mot:1:19: MOT002 there is no file nowhere\.mot\n"):
        load('model a { extends "nowhere.mot" }')


def test_errors_have_a_place_in_what_was_given() -> None:
    with pytest.raises(SpecError) as caught:
        load({**DICT, "attention": {"heads": 2, "bais": True}})
    assert str(caught.value).startswith(
        "<dict>.yaml:5:23: MOT021 unknown key `bais`\n    attention: {heads: 2, bais: true}\n"
    )
    with pytest.raises(SpecError, match=r"^<text>\.yaml:3:8: MOT023 "):
        load(YAML.replace("16", "wide"))
    with pytest.raises(SpecError, match=r"^<text>\.mot:1:1: MOT006 unexpected `modle`"):
        load(MOT.replace("model", "modle"))


@pytest.mark.parametrize(
    "spec, error, said",
    [
        ("small", SpecError, "there is no file small"),
        ("\n", SpecError, "holds no spec"),
        ({}, SpecError, "`model` is missing"),
        ({**DICT, "width": math.nan}, SpecError, "<dict>.yaml:2:8: MOT023 `width`"),
        ({**DICT, "width": 10**30}, SpecError, "`width` should be at most"),
        ({**DICT, "width": 10**5000}, ValueError, "`width` is beyond all sizes"),
        ({**DICT, "untie": {"ffn"}}, TypeError, "`untie` is a set"),
        ({**DICT, "ffn": {"hidden": torch.tensor(3)}}, TypeError, "`ffn.hidden` is a Tensor"),
        ({**DICT, "ffn": {3: 4}}, TypeError, "`ffn.3`: a key is a text, not a int"),
        ("", TypeError, "a path, a text or a mapping, not ''"),
        (b"small.mot", TypeError, "a path, a text or a mapping"),
        (None, TypeError, "a path, a text or a mapping"),
    ],
)
def test_what_is_no_spec_is_told(spec: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as caught:
        load(spec)
    assert said in str(caught.value)


WORDS = st.text(max_size=8) | st.sampled_from(["no", "1e5", "0..3", "~", "---", "*a", "a: b", "#", "{", "\n", "\u2028"])
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS
TREES = st.recursive(VALUES, lambda s: st.lists(s, max_size=3) | st.dictionaries(WORDS, s, max_size=3), max_leaves=6)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(WORDS, TREES, max_size=3))
def test_a_dict_is_read_as_what_it_is(tree: dict[str, Any]) -> None:
    with contextlib.suppress(SpecError, ValueError):  # such as a number beyond all sizes, or half a surrogate pair
        source = spec_source(tree)
        assert isinstance(source, SourceFile)
        assert to_python(read(source)) == tree


def test_a_dict_that_holds_itself_is_told() -> None:
    tree: dict[str, Any] = {}
    tree["model"] = tree
    with pytest.raises(ValueError, match="nested too deep"):
        load(tree)


@pytest.mark.parametrize(
    "argument, value, error, said",
    [
        ("strategy", "sort", ValueError, "'sort'; it may be sorted, reference, grouped, blend"),
        ("strategy", ["sorted"], ValueError, "it may be sorted"),
        ("dtype", "int8", ValueError, "'int8'; it may be float32, bfloat16, float16, float64"),
        ("dtype", torch.complex64, ValueError, "it may be float32"),
        ("dtype", float, TypeError, "it may be a torch.dtype or its name"),
        ("device", "gpu", ValueError, "device 'gpu' cannot be used here: Expected one of cpu, cuda"),
        ("device", "cuda:977", ValueError, "device 'cuda:977' cannot be used here: "),
        ("device", "", ValueError, "device '' cannot be used here"),
        ("device", "hpu", ValueError, "device 'hpu' cannot be used here: "),
        ("device", "vulkan", ValueError, "device 'vulkan' cannot be used here: "),
        ("device", True, TypeError, "device is True"),
        ("device", None, TypeError, "device is None"),
        ("seed", math.nan, TypeError, "seed is nan; it may be any whole number"),
        ("seed", "0", TypeError, "seed is '0'"),
        ("seed", None, TypeError, "seed is None"),
        ("set", "layers=2", TypeError, "set is 'layers=2'"),
        ("set", {3: 4}, TypeError, "set is {3: 4}"),
        ("set", [*range(9999)], TypeError, "set is [0, 1, 2, 3, 4, 5, ...]; it may be a dict"),
        ("device", "cuda" * 9999, ValueError, "device 'cudacudacud"),
        ("dtype", "f" * 9999, ValueError, "dtype is 'ffff"),
        ("seed", "0" * 9999, TypeError, "seed is '0000"),
        ("strategy", "s" * 9999, ValueError, "it may be sorted"),
    ],
)
def test_an_argument_that_is_wrong_is_told(
    argument: str, value: Any, error: type[Exception], said: str, path: Path
) -> None:
    with pytest.raises(error) as caught:
        load(path, **{argument: value})
    assert said in str(caught.value) and len(str(caught.value)) < 400


def test_dtypes_have_names_and_a_seed_is_any_whole_number(path: Path) -> None:
    for name in ("float32", "bfloat16", "float16", "float64", "torch.bfloat16"):
        dtype = getattr(torch, name.removeprefix("torch."))
        assert {x.dtype for x in load(path, dtype=name).parameters()} == {dtype}
    weights = [load(path, device="cpu", seed=seed).head.image.weight for seed in (3, numpy.int64(3), -3, 10**50)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])
    assert not weights[0].equal(weights[3])
    for wrong in (0.5, torch.tensor(0.5)):
        with pytest.raises(TypeError, match=r"seed is .*0\.5"):
            load(path, device="cpu").init_weights(wrong)


def test_a_model_is_made_without_drawing_numbers_that_are_drawn_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the meta device that would import torch's compiler: 80 MB, and seconds."""

    def drawn(*_: Any, **__: Any) -> None:
        raise AssertionError("torch drew numbers")

    for name in ("normal_", "uniform_"):
        monkeypatch.setattr(torch.Tensor, name, drawn)
    load(path)


def test_the_page_says_how_to_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parent.parent
    page = (root / "docs" / "generated_model.md").read_text(encoding="utf-8")
    begin, end = page.index("    for width in"), page.index("Errors in them have places")
    program = "\n".join(line.removeprefix("    ") for line in page[begin:end].splitlines())
    monkeypatch.chdir(root)
    names: dict[str, Any] = {"motc": motc}
    exec(program, names)
    assert names["model"].embedding.text.weight.shape[-1] == 256
