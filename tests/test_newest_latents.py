"""Variances and places that are learnt, feed-forwards added around attention, and no final norm but its modulation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import motc
from motc.driver import compile_ir
from motc.exporting.program import write_program
from motc.source import SourceFile, SpecError
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
TOLD = SPEC.replace("time = none, objective", "time { size = 6, scale = 0.01 }, objective")
MISTAKES = {
    "variances": (SPEC, "bound.cost(wide.detach(), variance)", "bound.cost(wide.detach(), -variance)"),
    "what variances teach": (SPEC, "bound.cost(wide.detach(), variance)", "bound.cost(wide, variance)"),
    "interpolation": (SPEC, 'mode="bicubic"', 'mode="bilinear"'),
    "the middle": (CROPPED, "table[top : top + rows", "table[top + 1 : top + rows + 1"),
    "around": (SPEC, "return entry + gated(", "return x + gated("),
    "how the timestep is scaled": (TOLD, "TimestepEmbedding(6, WIDTH, 0.01)", "TimestepEmbedding(6, WIDTH)"),
    "no final norm": (SPEC, "return modulated(x, self.final_modulation(conditions), spans)", "return x"),
}


@pytest.mark.laws
@pytest.mark.parametrize("spec", [SPEC, CROPPED, APART, TOLD], ids=["shared", "cropped", "apart", "told"])
def test_every_law_holds(spec: str) -> None:
    verdict = report(spec)
    assert verdict.ok, verdict


@pytest.mark.laws
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str) -> None:
    assert {"reference outputs", "reference gradients"} & broken(*MISTAKES[mistake])


def test_sinusoids_of_timesteps_are_counted_and_refused() -> None:
    more = motc.load(TOLD).latents["image"].time.hidden.weight  # type: ignore[index,union-attr]
    assert more.shape == (16, 6)  # type: ignore[union-attr]
    with pytest.raises(SpecError, match="half of 7 sinusoids are cosines"):
        motc.load(TOLD.replace("size = 6", "size = 7"))
    with pytest.raises(SpecError, match="`size` is of a timestep whose vector is added"):
        motc.load(TOLD.replace("scale = 0.01", "kind = concat"))


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
