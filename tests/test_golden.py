"""Whole generated files, to be read when they change: `make golden` writes them anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from motc.driver import compile_ir, generate

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = sorted((ROOT / "tests" / "golden").glob("*/model.py"))


def test_there_are_goldens() -> None:
    assert {path.parent.name for path in GOLDEN} >= {"emoji_mot", "chameleon_37m_dense"}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name)
def test_the_generated_file_is_the_golden_one(path: Path) -> None:
    (spec,) = (ROOT / "specs").rglob(f"{path.parent.name}.mot")
    assert generate(compile_ir(spec)) == path.read_text(encoding="utf-8"), "run `make golden` and read the difference"
