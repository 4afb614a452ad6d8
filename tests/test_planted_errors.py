"""A mistake planted in the generated code must make validation fail."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from motc.driver import compile_ir, generate
from motc.loading import import_source, instantiate
from motc.validate import validate

SPEC = """
model planted {
  width = 24
  layers = 2
  modality text { vocab = 11 }, image { vocab = 7 }, speech { vocab = 5 }
  attention { heads = 4, kv_heads = 2, qk_norm = rms }
  ffn { hidden = 20 }
  norm { placement = %s }
  untie attention, ffn, norm
  untie ffn as {text} {image, speech} in layer 1
}
"""

MISTAKES = {
    "a wrong tower": (
        "return [piece if name is None else self[name](piece) for name, piece in pairs]",
        "return [piece if name is None else self[self.route[0]](piece) for name, piece in pairs]",
    ),
    "a wrong tower's norm": ("torch.where(places >= end,", "torch.where(places > end,"),
    "a missing permutation to slots": (
        "permute(x, layout.inverse.flatten(), layout.order)",
        "(x if x.shape[0] == rows * length else permute(x, layout.inverse.flatten(), layout.order))",
    ),
    "a missing permutation to sorted order": (
        "return permute(x.flatten(0, 1), layout.order, layout.inverse.flatten())",
        "return x.flatten(0, 1)[: layout.order.numel()]",
    ),
    "a wrong backward of the permutation": (
        "return permute(gradients[0], inverse, order), None, None",
        "return permute(gradients[0], order, inverse), None, None",
    ),
    "a norm placed elsewhere": (
        "        out = self.norm(out, layout.sorted_places)\n        x = x + out\n",
        "        x = self.norm(x + out, layout.sorted_places)\n",
    ),
    "documents that see each other": (
        "document = document_starts(modality_ids, document_ids).flatten().cumsum(0)",
        "pass",
    ),
    "documents in one row that see each other": ("(document_ids[:, :, None] == document_ids[:, None, :])", "True"),
    "positions that go on in the next document": (
        "return index - (index * starts).cummax(dim=1).values",
        "return index",
    ),
    "padding that is read": ("present = (order >= 0)", "present = (order >= -1)"),
    "a loss counted under the wrong modality": (
        "modalities = look_up(modality_ids.flatten(), following, -1)",
        "modalities = torch.where(following >= 0, look_up(modality_ids.flatten(), tokens, -1), -1)",
    ),
    "no mask": ("is_causal=mask is None", "is_causal=False"),
}


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "planted.mot"
    path.write_text(SPEC % "sublayer_output")
    return path


def test_the_unchanged_model_passes(spec: Path) -> None:
    sparse, dense = compile_ir(spec), compile_ir(spec, dense=True)
    modules = [instantiate(model, dtype=torch.float64) for model in (sparse, dense)]
    report = validate(sparse, dense, modules[0], modules[1])
    assert report.ok, report
    assert len(report.laws) >= 10


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str, spec: Path) -> None:
    right, wrong = MISTAKES[mistake]
    sparse, dense = compile_ir(spec), compile_ir(spec, dense=True)
    source = generate(sparse)
    assert right in source
    broken = import_source(source.replace(right, wrong)).Planted().double()
    twin = instantiate(dense, dtype=torch.float64)
    try:
        report = validate(sparse, dense, broken, twin)
    except (RuntimeError, IndexError):  # torch itself refuses what no longer fits
        return
    assert not report.ok
