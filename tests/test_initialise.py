"""Initial weights: what the inventory says of each group, drawn as docs/numerics.md says."""

from __future__ import annotations

import hashlib
from math import sqrt

import pytest
import torch
from torch import Tensor, nn

import motc
from codegen_templates.initialise import fill_normal
from motc.ir.inventory import LAYER_GROUPS

SPEC = """
model starts {
  width = 32
  layers = 3
  modality out { vocab = 40 }
  modality down { vocab = 50 }
  attention { heads = 4, bias = true, qk_norm = rms }
  ffn { FFN }
  norm { kind = layer }
  untie attention, ffn
}
"""


FFN = {
    "plain": "kind = swiglu, hidden = 24",
    "experts": "kind = moe, experts = 3, hidden = 24, routing = top_k, top_k = 1, shared_experts = 2",
}


@pytest.mark.parametrize("kind", FFN)
def test_every_parameter_starts_as_its_group_does_whatever_modalities_are_called(kind: str) -> None:
    model = motc.load(SPEC.replace("FFN", FFN[kind]), seed=5)
    smaller = {group.path for group in LAYER_GROUPS if group.start == "into_stream"}
    assert smaller == {"attention.out", "ffn.down", "ffn.shared.down"}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias" or not isinstance(module, nn.Linear | nn.Embedding):
                assert torch.equal(parameter, torch.full_like(parameter, float(name != "bias"))), f"{path}.{name}"
                continue
            deviation, key = 0.02, path
            if path.startswith("layers."):
                key = path.rpartition(".")[0]  # all copies of a group are drawn alike
                deviation = 0.02 / sqrt(2 * 3) if key.split(".", 2)[2] in smaller else 0.02
            assert torch.equal(parameter, drawn(parameter, f"5:{key}", deviation)), path


def drawn(like: Tensor, key: str, deviation: float) -> Tensor:
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big")
    return torch.empty(like.shape).normal_(0.0, deviation, generator=torch.Generator().manual_seed(seed))


def test_numbers_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor on the dtype, into which they are rounded."""
    monkeypatch.setattr("codegen_templates.initialise.AT_ONCE", 608)
    for shape in ((70, 30), (33, 7, 3), (3, 5)):
        parameter = torch.empty(shape, dtype=torch.bfloat16)
        fill_normal(parameter, "5:head", 0.02)
        assert torch.equal(parameter, drawn(parameter, "5:head", 0.02).bfloat16())
