"""Variances and places that are learnt, feed-forwards added around attention, and no final norm but its modulation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import motc
from motc.driver import compile_ir
from motc.exporting.program import write_program
from motc.source import SourceFile
from motc.validate.batches import random_batches
from motc.validate.random_parameters import randomise
from tests.planted import broken, report
from tests.test_compile_pairs import assert_compiled_as_eager, fresh

__all__ = ["fresh"]

SPEC = """
model newest {
  width = 16, layers = 2
  vocab = 11
  modality text
  modality image {
    latent {
      channels = 2, patch = 2, time = none, objective { variance = learned, schedule = linear }
      learned { rows = 4, fit = interpolate }
    }
    condition { timestep { size = 4 }, label { count = 3 } }
  }
  attention { heads = 2, mask { bidirectional = image } }
  ffn { hidden = 24 }
  norm { kind = layer, weight = false, adaptive = image, final { kind = none } }
  residual { around = layer }
}
"""
CROPPED = SPEC.replace(", fit = interpolate", "").replace("rows = 4", "rows = 40")
APART = SPEC.replace("residual", "untie attention, ffn, norm\n  residual")
MISTAKES = {
    "variances": (SPEC, "bound.cost(wide.detach(), variance)", "bound.cost(wide.detach(), -variance)"),
    "what variances teach": (SPEC, "bound.cost(wide.detach(), variance)", "bound.cost(wide, variance)"),
    "interpolation": (SPEC, 'mode="bicubic"', 'mode="bilinear"'),
    "the middle": (CROPPED, "table[top : top + rows", "table[top + 1 : top + rows + 1"),
    "around": (SPEC, "return entry + gated(", "return x + gated("),
    "no final norm": (SPEC, "return modulated(x, self.final_modulation(conditions), spans)", "return x"),
}


@pytest.mark.parametrize("spec", [SPEC, CROPPED, APART], ids=["shared", "cropped", "apart"])
def test_every_law_holds(spec: str) -> None:
    verdict = report(spec)
    assert verdict.ok, verdict


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str) -> None:
    assert {"reference outputs", "reference gradients"} & broken(*MISTAKES[mistake])


@pytest.mark.compiled
@pytest.mark.parametrize("spec", [SPEC, APART], ids=["shared", "apart"])
def test_compiled_as_eager(spec: str) -> None:
    """Built kernels and all: documents in rows of their own, and such as share one."""
    model, generator = compile_ir(SourceFile("newest.mot", spec)), torch.Generator().manual_seed(1)
    mixed, _, packed, *_, uneven = random_batches(model, generator)
    assert_compiled_as_eager(model, [mixed, packed, uneven], generator)


@pytest.mark.compiled
def test_exported(tmp_path: Path) -> None:
    network: Any = motc.load(APART)
    randomise(network, torch.Generator().manual_seed(1))
    written = write_program(compile_ir(SourceFile("newest.mot", APART)), network, tmp_path / "out", "pt2")
    assert written.logits < 1e-5
