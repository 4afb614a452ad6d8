"""A plan's bytes against those that two gloo processes hold: states within 5 %, activations within 15 %."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

import motc
from motc.cluster.activations import activation_bytes
from motc.cluster.meshes import Mesh, states
from motc.driver import compile_ir
from motc.source import SourceFile
from tests.processes import start_two

MOT = """
model planned {
  width = 64, layers = 3
  modality text { vocab = 128 }, image { vocab = 96 }
  attention { heads = 4, kv_heads = 2, qk_norm = rms }
  ffn { hidden = 160 }
  untie attention, ffn, norm
}
"""
EXPERTS = MOT.replace("hidden = 160", "hidden = 96, kind = moe, experts = 4, top_k = 2, shared_experts = 1")
DENSE = MOT.replace("untie", "# untie")
LATENTS = MOT.replace("vocab = 96", "latent { channels = 4, patch = 2 }")
CASES = {
    f"{dimension}-{name}": (dimension, spec)
    for name, spec in {
        "mot": MOT,
        "experts": EXPERTS,
        "latents": LATENTS,
        "dense": MOT.replace("untie", "# untie"),
    }.items()
    for dimension in ("dp", "tp", "cp", "ep")
    if dimension != "ep" or name == "experts"
}


def batch(spec: str) -> dict[str, Any]:
    modality_ids = torch.tensor([[0] * 32 + [1] * 32] * 2)
    given: dict[str, Any] = {"input_ids": torch.arange(128).view(2, 64) % 90, "modality_ids": modality_ids}
    if "latent" in spec:  # each image 32 patches of 2 x 2
        given["latents"] = {"image": torch.zeros(2, 4, 8, 16)}
    return given


def measured(dimension: str, spec: str) -> dict[str, float]:
    """Bytes that this rank holds and those that a plan has of it."""
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=(dimension,))
    model: Any = motc.load(spec, seed=0)
    motc.parallelize(model, mesh)
    kept: dict[int, int] = {}

    def held() -> list[torch.Tensor]:
        return [each.to_local() if isinstance(each, DTensor) else each for each in model.parameters()]

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in {each.untyped_storage().data_ptr() for each in held()}:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    own = sum(each.numel() for each in held())
    saved: Callable[[torch.Tensor], torch.Tensor] = keep
    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(saved, lambda tensor: tensor):
        losses = model.loss(**batch(spec))
    losses.total.backward()
    ir, of = compile_ir(SourceFile("planned.mot", spec)), Mesh(**{dimension: 2})
    tokens = 64 if dimension == "cp" else 128
    settings: dict[str, Any] = {"ranks": of.tp, "cut": of.cp, "exchanged": of.ep > 1}
    planned = tokens * activation_bytes(ir, {"text": 0.5, "image": 0.5}, dtype="float32", **settings)
    return {"own": own / states(ir, of).own, "activations": sum(kept.values()) / planned}


def worker(rank: int, folder: str, port: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    found = {name: measured(*case) for name, case in CASES.items()}
    if rank == 0:
        Path(folder, "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.mark.compiled
def test_two_ranks_hold_what_a_plan_says(tmp_path: Path) -> None:
    start_two(worker, str(tmp_path))
    found = json.loads((tmp_path / "found.json").read_text())
    assert {name: each for name, each in found.items() if abs(each["own"] - 1) > 0.05} == {}
    assert {name: each for name, each in found.items() if abs(each["activations"] - 1) > 0.15} == {}
