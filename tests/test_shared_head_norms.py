"""A qk-norm is over head_dim, so towers of different widths may share one: all the way down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from motc.cost import total_parameters
from motc.diff import diff
from motc.driver import compile_ir
from motc.ir.execution import Strategy
from motc.loading import instantiate
from motc.source import SpecError
from motc.validate import validate

SPEC = """
model r {
  width = 16; layers = 1; vocab = 9
  modality a, b, c
  attention { heads = 4, head_dim = 4, qk_norm = %s }
  tower t = b { width = 8 }
  untie attention.q, attention.k, attention.v, attention.out, ffn, norm, embedding, head
  %s
}
"""


@pytest.mark.laws
@pytest.mark.parametrize(
    "qk_norm, untie, strategy",
    [
        ("rms", "", "sorted"),
        ("layer", "untie attention.q_norm as {a, b} {c}", "sorted"),
        ("rms", "", "reference"),
        ("layer", "", "blend"),
    ],
)
def test_every_law_holds(qk_norm: str, untie: str, strategy: Strategy, tmp_path: Path) -> None:
    path = tmp_path / "r.mot"
    path.write_text(SPEC % (qk_norm, untie))
    sparse, dense = compile_ir(path, strategy=strategy), compile_ir(path, dense=True)
    modules: list[Any] = [instantiate(model, dtype=torch.float64) for model in (sparse, dense)]
    names = [name for name, _ in modules[0].named_parameters() if "_norm" in name and "attention" in name]
    assert "layers.0.attention.k_norm.weight" in names
    assert ("layers.0.attention.q_norm.a_b.weight" in names) == bool(untie)
    report = validate(sparse, dense, *modules)
    assert report.ok, report


def test_it_costs_one_copy_and_differs_by_one(tmp_path: Path) -> None:
    path, other = tmp_path / "r.mot", tmp_path / "s.mot"
    path.write_text(SPEC % ("rms", ""))
    other.write_text(SPEC % ("rms", "untie attention"))
    one, each = compile_ir(path), compile_ir(other)
    assert total_parameters(each) - total_parameters(one) == 2 * 2 * 4
    assert [edit.subject for edit in diff(one, each)] == ["attention.q_norm", "attention.k_norm"]


def test_what_has_the_width_cannot_span_widths(tmp_path: Path) -> None:
    path = tmp_path / "r.mot"
    path.write_text(SPEC % ("rms", "untie attention.norm as {a, b, c}"))
    with pytest.raises(SpecError) as caught:
        compile_ir(path)
    assert [diagnostic.code for diagnostic in caught.value.diagnostics] == ["MOT046"]
