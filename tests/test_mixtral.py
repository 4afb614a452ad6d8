"""Top-k routing against a model nobody here wrote: Hugging Face's Mixtral, logits and all gradients, in float64.

Mixtral takes its router's softmax in float32 and its norms too; both are asked to stay in the dtype of their input.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import motc
from tests.originals import NAMES as DENSE_NAMES
from tests.originals import agree

transformers = pytest.importorskip("transformers")

SPEC = """
model small {
  width = 48
  layers = %d
  vocab = 61
  modality text, image
  attention { heads = 4, kv_heads = 2, rope { theta = 10000 } }
  ffn { hidden = 80, kind = moe, experts = 5, routing = top_k, top_k = 2, balance = 0.25 }
  norm { eps = 1e-6 }
  untie %s
}
"""
NAMES = {**DENSE_NAMES, "mlp.gate.weight": "ffn.router.weight", "mlp.experts.down_proj": "ffn.down.weight"}


def renamed(theirs: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Their parameters, or gradients, by our names; their gate and up are stacked in one."""
    for name, value in theirs.items():
        for old, new in NAMES.items():
            name = name.replace(old, new)
        if name.endswith("mlp.experts.gate_up_proj"):
            stem = name.removesuffix("mlp.experts.gate_up_proj")
            gate, up = value.chunk(2, dim=1)
            yield f"{stem}ffn.gate.weight", gate
            yield f"{stem}ffn.up.weight", up
        else:
            yield name, value


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.mixtral.modeling_mixtral import MixtralRMSNorm, MixtralTopKRouter

    def norm(self: Any, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    def router(self: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = nn.functional.linear(x.reshape(-1, self.hidden_dim), self.weight)
        values, indices = torch.topk(logits.softmax(-1), self.top_k, dim=-1)
        return logits, values / values.sum(-1, keepdim=True), indices

    monkeypatch.setattr(MixtralRMSNorm, "forward", norm)
    monkeypatch.setattr(MixtralTopKRouter, "forward", router)
    real = torch.nn.functional.softmax
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda x, dim=None, dtype=None, **kw: real(x, dim=dim, **kw))


def mixtral(layers: int) -> Any:
    config = transformers.MixtralConfig(
        vocab_size=61,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=5,
        num_experts_per_tok=2,
        max_position_embeddings=64,
        rms_norm_eps=1e-6,
        rope_theta=10000.0,
        sliding_window=None,
        tie_word_embeddings=False,
        attn_implementation="eager",
        experts_implementation="eager",
    )
    torch.manual_seed(0)
    theirs = transformers.MixtralForCausalLM(config).double().eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    return theirs


def load(folder: Path, layers: int, untie: str) -> Any:
    spec = folder / "small.mot"
    spec.write_text(SPEC % (layers, untie))
    return motc.load(spec, dtype=torch.float64)


@pytest.mark.usefixtures("wide")
def test_logits_and_gradients(tmp_path: Path) -> None:
    theirs, ours = mixtral(3), load(tmp_path, 3, "ffn as {text, image}")
    parameters = dict(ours.named_parameters())
    expected_parameters = dict(renamed(dict(theirs.named_parameters())))
    assert {k: p.shape for k, p in expected_parameters.items()} == {k: p.shape for k, p in parameters.items()}
    ours.load_state_dict(expected_parameters)

    input_ids = torch.randint(0, 61, (2, 11))
    expected = theirs(input_ids, use_cache=False).logits
    got = ours(input_ids, torch.randint(0, 2, input_ids.shape)).logits
    agree(theirs, ours, expected, got, renamed)


@pytest.mark.usefixtures("wide")
def test_the_load_balancing_loss_and_its_gradient(tmp_path: Path) -> None:
    """Theirs is k at perfect balance, ours 1; theirs is added up in float32, hence the tolerance."""
    theirs, ours = mixtral(1), load(tmp_path, 1, "ffn as {text, image}")
    ours.load_state_dict(dict(renamed(dict(theirs.named_parameters()))))
    input_ids, modality_ids = torch.randint(0, 61, (2, 11)), torch.randint(0, 2, (2, 11))
    expected = 0.25 / 2 * theirs(input_ids, use_cache=False, output_router_logits=True).aux_loss
    losses = ours.loss(input_ids, modality_ids)
    torch.testing.assert_close(losses.balance, expected.double(), rtol=1e-6, atol=0.0)
    expected.backward()
    losses.balance.backward()
    gradient = theirs.model.layers[0].mlp.gate.weight.grad
    assert gradient.abs().max() > 1e-4
    torch.testing.assert_close(ours.layers[0].ffn.router.weight.grad, gradient, rtol=1e-6, atol=1e-9)
    counted = sum(
        losses.by_modality[name] * int((modality_ids[:, 1:] == i).sum()) for i, name in enumerate(ours.modalities)
    )
    torch.testing.assert_close(losses.total, counted / 20 + losses.balance)
