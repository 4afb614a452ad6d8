"""Two gloo processes under FSDP2, one of them without a modality, train as one process does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

import motc
from tests.processes import start_two

SPEC = """
model small {
  width = 32
  layers = 2
  modality text { vocab = 40 }, image { vocab = 30 }
  attention { heads = 4, qk_norm = rms }
  ffn { hidden = 64 }
  untie attention, ffn, norm
}
"""
EXPERTS = """
model small {
  width = 32
  layers = 2
  modality text { vocab = 40 }, image { vocab = 30 }
  attention { heads = 4 }
  ffn { hidden = 64, kind = moe, experts = 4, shared_experts = 1, routing = expert_choice }
  tower image = image { ffn { routing = top_k, scores = sigmoid, correction = true } }
  untie attention, ffn, norm
}
"""
STEPS = 3


def batch(rank: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rank 1 never sees an image."""
    generator = torch.Generator().manual_seed(10 * step + rank)
    ids = torch.randint(0, 30, (2, 12), generator=generator)
    modality = torch.randint(0, 2 - rank, (2, 12), generator=generator)
    return ids, modality


def worker(rank: int, folder: str, port: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    try:
        torch.set_num_threads(1)
        model: Any = motc.load(f"{folder}/small.mot", dtype=torch.float64)
        mesh = init_device_mesh("cpu", (2,))
        for layer in model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        if "moe" in Path(f"{folder}/small.mot").read_text():  # is not needed, and does no harm
            register_fsdp_forward_method(model, "loss")
        optimizer = motc.skip_absent(torch.optim.AdamW(model.parameters(), lr=0.01), model)
        losses = []
        for step in range(STEPS):
            loss = model.loss(*batch(rank, step)).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            update_corrections(model)
            losses.append(loss.item())
        dcp.save(get_model_state_dict(model), checkpoint_id=f"{folder}/checkpoint")
        state = get_model_state_dict(model)
        for value in state.values():
            value.zero_()
        dcp.load(state, checkpoint_id=f"{folder}/checkpoint")
        set_model_state_dict(model, state)
        losses.append(model.loss(*batch(rank, STEPS)).total.item())
        torch.save(losses, f"{folder}/losses{rank}.pt")
        torch.save(moved_without_images(model, optimizer, rank), f"{folder}/moved{rank}.pt")
    finally:
        dist.destroy_process_group()


def moved_without_images(model: Any, optimizer: Any, rank: int) -> list[str]:
    """The parameters of which this process's part is moved by a step of text alone, on all processes."""
    ids, _ = batch(rank, STEPS)
    optimizer.zero_grad()
    model.loss(ids, torch.zeros_like(ids)).total.backward()
    before = {name: each.to_local().clone() for name, each in model.named_parameters()}
    optimizer.step()
    return [name for name, each in model.named_parameters() if not torch.equal(before[name], each.to_local())]


def update_corrections(model: Any) -> None:
    """By so much that experts are chosen otherwise, if the model's routers have corrections."""
    if hasattr(model, "update_corrections"):
        model.update_corrections(0.3)


@pytest.mark.compiled
@pytest.mark.parametrize("spec", [SPEC, EXPERTS], ids=["towers", "experts"])
def test_a_modality_absent_on_one_rank(spec: str, tmp_path: Path) -> None:
    (tmp_path / "small.mot").write_text(spec)
    start_two(worker, str(tmp_path))
    sharded = [torch.load(tmp_path / f"losses{rank}.pt") for rank in range(2)]
    for rank in range(2):  # neither by decay nor by momentum, and where only one process has images, by their gradients
        moved = torch.load(tmp_path / f"moved{rank}.pt")
        assert any(".text." in name for name in moved) and not any(".image." in name for name in moved)

    model: Any = motc.load(tmp_path / "small.mot", dtype=torch.float64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(STEPS + 1):
        losses = [model.loss(*batch(rank, step)).total for rank in range(2)]
        for rank in range(2):
            assert losses[rank].item() == pytest.approx(sharded[rank][step], rel=1e-10)
        optimizer.zero_grad()
        (sum(losses) / 2).backward()
        optimizer.step()
        update_corrections(model)
