"""Ten times as many statements cost at most about ten times the time."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import pytest

from motc.cli import main

HEAD = """
model long {
  width = 64
  layers = 64
  vocab = 100
  modality text, image, speech
  attention { heads = 4 }
"""
CELLS = ("{text} {image, speech}", "{text, image} {speech}", "{text} {image} {speech}")


def seconds(path: Path, statements: int) -> float:
    lines = [f"  untie ffn as {CELLS[i % 3]} in layers {i % 60}..{i % 60 + 3}" for i in range(statements)]
    path.write_text(HEAD + "\n".join(lines) + "\n}\n")
    start = time.process_time()
    assert main(["check", str(path)]) == 0
    return time.process_time() - start


@pytest.mark.slow
def test_the_cost_grows_linearly(tmp_path: Path) -> None:
    path = tmp_path / "long.mot"
    before = gc.get_threshold()
    seconds(path, 10)  # the parser is built once
    short = min(seconds(path, 1000) for _ in range(3))
    long = min(seconds(path, 10_000) for _ in range(2))
    gc.set_threshold(*before)
    assert long <= 12 * short
