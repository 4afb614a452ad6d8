"""Parts of a batch, one after the other or on two processes, have the gradients of the whole batch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import motc
from tests.processes import start_two

SPEC = """
model parts {
  width = 32, layers = 2
  modality text { vocab = 40, weight = 0.5 }, speech { vocab = 24 }
  modality image { latent { channels = 2, patch = 2, weight = 5 } }
  attention { heads = 4 }
  ffn { hidden = 48 }
  untie attention, ffn, norm
}
"""
EXPERTS = SPEC.replace("ffn { hidden = 48 }", "ffn { hidden = 48, kind = moe, experts = 4, top_k = 2, balance = 0.1 }")


def batch() -> dict[str, Any]:
    """Rows of unlike lengths; the first two have two images and one, the others none."""
    generator = torch.Generator().manual_seed(0)
    modality_ids = torch.tensor(
        [
            [0, 0, 2, 2, 2, 2, 0, 2, 2, 2, 2, 1],
            [1, 1, 2, 2, 2, 2, 1, 0, -1, -1, -1, -1],
            [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1],
            [0, 1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1],
        ]
    )
    return {
        "input_ids": torch.randint(0, 24, modality_ids.shape, generator=generator),
        "modality_ids": modality_ids,
        "weights": torch.rand(modality_ids.shape, generator=generator, dtype=torch.float64),
        "latents": torch.randn(3, 2, 4, 4, generator=generator, dtype=torch.float64),
        "noise": torch.randn(3, 2, 4, 4, generator=generator, dtype=torch.float64),
        "timesteps": torch.tensor([3, 700, 40]),
    }


def part(rows: slice, images: slice) -> dict[str, Any]:
    """These rows of the batch, with their images."""
    whole = batch()
    of_tokens = {name: whole[name][rows] for name in ("input_ids", "modality_ids", "weights")}
    return of_tokens | {name: {"image": whole[name][images]} for name in ("latents", "noise", "timesteps")}


WHOLE = (slice(0, 4), slice(0, 3))
PARTS = [(slice(0, 1), slice(0, 2)), (slice(1, 4), slice(2, 3))]


def gradients(model: Any) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def counted(model: Any, given: dict[str, Any]) -> dict[str, Tensor]:
    counts: dict[str, Tensor] = model.count(
        **{name: x for name, x in given.items() if name not in ("noise", "timesteps")}
    )
    return counts


@pytest.mark.parametrize("strategy", ["sorted", "blend", "reference"])
def test_two_unequal_parts_are_the_whole(strategy: Any) -> None:
    whole: Any = motc.load(SPEC, dtype=torch.float64, strategy=strategy)
    expected = whole.loss(**part(*WHOLE))
    expected.total.backward()
    model: Any = motc.load(SPEC, dtype=torch.float64, strategy=strategy)
    parts = [part(*each) for each in PARTS]
    counts = [counted(model, each) for each in parts]
    weights = {name: sum(count[name] for count in counts) for name in model.modalities}
    total = torch.zeros((), dtype=torch.float64)
    for each, count in zip(parts, counts, strict=True):
        losses = model.loss(**each)
        assert {name: x.item() for name, x in losses.weights.items()} == {name: x.item() for name, x in count.items()}
        share = model.share(losses, weights)
        share.backward()
        total += share.detach()
    torch.testing.assert_close(total, expected.total.detach())
    for name, gradient in gradients(whole).items():
        torch.testing.assert_close(gradients(model)[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def test_the_share_of_the_whole_is_its_total() -> None:
    model: Any = motc.load(EXPERTS, dtype=torch.float64)
    losses = model.loss(**part(*WHOLE))
    assert losses.balance > 0
    torch.testing.assert_close(model.share(losses, losses.weights), losses.total)
    half = {name: 2 * weight for name, weight in losses.weights.items()}
    torch.testing.assert_close(model.share(losses, half), losses.total / 2)


def test_what_has_no_target_has_a_share_of_0() -> None:
    model: Any = motc.load(SPEC)
    padding = torch.full((1, 3), -1)
    losses = model.loss(padding.clamp(min=0), padding)
    share = model.share(losses, losses.weights)
    share.backward()
    assert share == 0
    assert not any(gradient.any() for gradient in gradients(model).values())


def worker(rank: int, folder: str, port: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    model: Any = motc.load(SPEC, dtype=torch.float64)
    ddp = DistributedDataParallel(model)
    given = part(*PARTS[rank])
    losses = ddp(**given, labels=given["input_ids"])
    weights = torch.stack([weight.double() for weight in losses.weights.values()])
    dist.all_reduce(weights)
    share = model.share(losses, dict(zip(losses.weights, weights, strict=True)))
    (share * 2).backward()  # gradients are averaged over the two
    save_file(gradients(model), f"{folder}/{rank}.safetensors")
    dist.destroy_process_group()


@pytest.mark.compiled
def test_two_processes_are_one(tmp_path: Path) -> None:
    start_two(worker, str(tmp_path))
    whole: Any = motc.load(SPEC, dtype=torch.float64)
    whole.loss(**part(*WHOLE)).total.backward()
    for rank in (0, 1):
        each = load_file(tmp_path / f"{rank}.safetensors")
        for name, gradient in gradients(whole).items():
            torch.testing.assert_close(each[name], gradient, rtol=1e-9, atol=1e-12, msg=name)
