"""Ten times as many statements cost ten times the work, counted in function calls: seconds would be noise."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable
from pathlib import Path

import pytest

from motc.driver import compile_ir, final_ir, generate
from motc.schema import check
from motc.schema.resolve import normalise
from motc.source import SourceFile, SpecError
from motc.syntax import read

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


def work(text: str, *, generating: bool = False) -> int:
    """How many functions are called to check a `.mot` text, right or wrong, and to generate a model."""
    source = SourceFile("a.mot", text)

    def run() -> None:
        try:
            model = final_ir(check(normalise(read(source))))
        except SpecError:
            return
        if generating:
            generate(model)

    profile = cProfile.Profile()
    profile.runcall(run)
    return pstats.Stats(profile).total_calls  # type: ignore[attr-defined,no-any-return]


def unknown_keys(count: int) -> str:
    return "model a {\n" + "\n".join(f"k{index} = 1" for index in range(count)) + "\n}\n"


def same_statements(count: int) -> str:
    return HEAD + "untie *\n" * count + "}\n"


def many_layers(count: int, modalities: int = 64) -> str:
    """A statement for every other layer, so that there are as many runs of layers as there are layers."""
    names = ", ".join(f"m{index}" for index in range(modalities))
    lines = "\n".join(f"untie ffn in layer {2 * index}" for index in range(count // 2))
    return (
        f"model a {{ width = 8; layers = {count}; vocab = 9; attention {{ heads = 2 }}\nmodality {names}\n{lines}\n}}\n"
    )


@pytest.mark.parametrize("text", [unknown_keys, same_statements, many_layers])
def test_odd_input_costs_what_it_is_long(text: Callable[[int], str]) -> None:
    work(text(10))  # what is made once
    few, many = work(text(200)), work(text(2000))
    assert many <= 11 * few


def test_layers_of_few_kinds_cost_what_their_kinds_do() -> None:
    """Where 64 modalities go through two kinds of layers, a layer is read, and part of the model's hash."""
    work(many_layers(10), generating=True)
    few, many = work(many_layers(100), generating=True), work(many_layers(1100), generating=True)
    assert (many - few) / 1000 < 2000


def test_the_work_grows_linearly(tmp_path: Path) -> None:
    path = tmp_path / "long.mot"
    calls(path, 10)  # the parser is built once
    few, many = calls(path, 300), calls(path, 3000)
    assert few > 10_000
    assert many <= 10.5 * few
