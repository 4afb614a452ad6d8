"""Specs and models as a notebook shows them."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import motc
from motc.source import SpecError

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "specs" / "emoji_mot.mot"


def test_a_spec_is_shown_as_its_drawing_without_torch(tmp_path: Path) -> None:
    program = (
        "import sys, motc; shown = motc.spec('specs/emoji_mot.mot', set={'layers': 6}); html = shown._repr_html_()\n"
        "assert 'layers 0..5' in html and 'layers' in repr(shown)\n"
        "from motc.diff import diff, Edit; import motc.diff\n"
        "assert len(motc.diff(motc.spec('specs/emoji_mot.mot', dense=True), 'specs/emoji_mot.mot').edits) == 3\n"
        "sys.exit('torch' if 'torch' in sys.modules else None)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_drawing_in_a_notebook_is_well_formed_and_styles_nothing_else() -> None:
    shown = ElementTree.fromstring(motc.spec(SPEC)._repr_html_())
    style = shown.find(".//{http://www.w3.org/2000/svg}style")
    assert style is not None and style.text is not None
    selectors = [each for rule in style.text.splitlines() for each in rule.partition("{")[0].split(",")]
    assert all(selector.startswith(".motc-drawing ") for selector in selectors)


def test_a_diff_is_shown_and_has_its_edits(tmp_path: Path) -> None:
    changed = motc.diff(SPEC.parent / "emoji_dense.mot", str(SPEC))
    assert [edit.subject for edit in changed.edits] == ["attention", "ffn", "norm"]
    assert "was shared by text, image" in changed._repr_html_()
    assert repr(changed).startswith("~ attention: {text image} → {text} {image}")
    assert repr(motc.diff(SPEC, SPEC)) == "the same model"
    for name, start in (("a.html", "<!doctype html>"), ("a.svg", "<?xml")):
        changed.save(tmp_path / name)
        motc.spec(SPEC).save(tmp_path / f"of_spec_{name}")
        assert (tmp_path / name).read_text().startswith(start)
        assert (tmp_path / f"of_spec_{name}").read_text().startswith(start)


def test_texts_and_dicts_are_specs_and_mistakes_are_told() -> None:
    text = "model a { width = 8, layers = 1, vocab = 9\n modality text\n attention { heads = 1 } }"
    tree = {"model": "a", "width": 8, "layers": 1, "vocab": 9, "modalities": ["text"], "attention": {"heads": 1}}
    assert motc.diff(text, tree).edits == ()
    motc.diff(text, tree).save("/dev/null")
    with pytest.raises(SpecError):
        motc.spec("model a { widht = 8 }")
    with pytest.raises(TypeError):
        motc.spec(3)  # type: ignore[arg-type]


def test_a_loaded_model_is_shown_as_its_drawing() -> None:
    model = motc.load(SPEC, set={"width": 16, "layers": 1})
    shown = model._repr_html_()  # type: ignore[operator]
    assert "layer 0" in shown and copy.deepcopy(model)._repr_html_() == shown  # type: ignore[operator]
    other = motc.load(SPEC, set={"width": 16, "layers": 2})
    assert "layers 0..1" in other._repr_html_() and model._repr_html_() == shown  # type: ignore[operator]
