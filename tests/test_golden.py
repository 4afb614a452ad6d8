"""Generated architectures, to be read when they change: `make golden` writes them anew."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from motc.driver import check_spec, final_ir, generate_package, spec_text

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = sorted((ROOT / "tests" / "golden").glob("*/model.py"))


def test_there_are_goldens_of_every_kind() -> None:
    assert {path.parent.name for path in GOLDEN} == {
        "chameleon_37m_dense",
        "emoji_mot",
        "chameleon_speech_880m_mot",  # three towers
        "chameleon_speech_880m_ffn_qkv",  # partial untying
        "two_widths",
        "transfusion_163m_mot",  # latents
        "chameleon_443m_hybrid",  # experts
        "chameleon_speech_443m_text_alone",  # leave one out
    }


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name)
def test_the_generated_architecture_is_the_golden_one(path: Path) -> None:
    specs = [*(ROOT / "specs").rglob(f"{path.parent.name}.mot"), *path.parent.glob("*.mot")]
    (spec,) = specs
    checked = check_spec(spec)
    found = generate_package(final_ir(checked), spec_text(checked))["model.py"]
    assert found == path.read_text(encoding="utf-8"), "run `make golden` and read the difference"


@pytest.mark.parametrize("name, most", [("emoji_mot", 250), ("chameleon_37m_dense", 120)])
def test_an_architecture_is_read_at_once(name: str, most: int) -> None:
    """Its lines without those of the docstring, which quotes the spec."""
    text = (ROOT / "tests" / "golden" / name / "model.py").read_text(encoding="utf-8")
    docstring = ast.parse(text).body[0]
    assert isinstance(docstring, ast.Expr) and docstring.end_lineno is not None
    assert len(text.splitlines()) - docstring.end_lineno <= most
