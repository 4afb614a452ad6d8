"""Ten times as many statements cost ten times the work, counted in function calls: seconds would be noise."""

from __future__ import annotations

import cProfile
import pstats
from pathlib import Path

from motc.driver import compile_ir, generate

HEAD = """
model long {
  width = 64
  layers = 64
  vocab = 100
  modality text, image, speech
  attention { heads = 4 }
"""
CELLS = ("{text} {image, speech}", "{text, image} {speech}", "{text} {image} {speech}")


def calls(path: Path, statements: int) -> int:
    """How many functions are called to compile a spec with so many statements."""
    lines = [f"  untie ffn as {CELLS[i % 3]} in layers {i % 60}..{i % 60 + 3}" for i in range(statements)]
    path.write_text(HEAD + "\n".join(lines) + "\n}\n")
    profile = cProfile.Profile()
    profile.runcall(lambda: generate(compile_ir(path)))
    return pstats.Stats(profile).total_calls  # type: ignore[attr-defined,no-any-return]


def test_the_work_grows_linearly(tmp_path: Path) -> None:
    path = tmp_path / "long.mot"
    calls(path, 10)  # the parser is built once
    few, many = calls(path, 300), calls(path, 3000)
    assert few > 10_000
    assert many <= 10.5 * few
