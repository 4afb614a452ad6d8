"""Checkpoints written on one mesh and read on another, what is refused of them, and ranks that differ at once."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

import motc
from motc.source import SpecError
from motc.training.checkpoints import newest_checkpoint
from tests.processes import start
from tests.test_parallelize import LATENTS, MOT

pytestmark = pytest.mark.compiled


def trained(mesh: dict[str, int], steps: int, folder: Path, *, seed: int = 0) -> list[float]:
    """Losses of steps on a mesh, from where a checkpoint in the folder stands if there is one; then it is written."""
    ranks = init_device_mesh("cpu", tuple(mesh.values()), mesh_dim_names=tuple(mesh))
    model: Any = motc.load(MOT, dtype=torch.float64, seed=seed)
    motc.parallelize(model, ranks)
    groups = motc.optimizer_groups(model, {"*norm": {"weight_decay": 0.0}}, lr=1e-2)
    optimizer = motc.skip_absent(torch.optim.AdamW(groups), model)
    newest, losses, first = newest_checkpoint(folder), list[float](), 0
    if newest is not None:
        first = motc.load_checkpoint(newest, model, optimizer)["step"]
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(0, 24, (4, 8), generator=generator)
        mine = ids.chunk(mesh.get("dp", 1))[ranks.get_local_rank("dp") if "dp" in mesh else 0]
        share: Any = motc.share_of_all(model, model.loss(mine, mine % 2), ranks)
        share.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()
        total = share.detach().clone()
        dist.all_reduce(total)
        losses.append(total.item() / dist.get_world_size())
    saving = motc.save_checkpoint(
        folder / f"step-{first + steps}", model, optimizer, {"step": first + steps}, asynchronous=newest is None
    )
    if saving is not None:
        saving.result()
    dist.barrier()
    motc.save_weights(folder / f"step-{first + steps}.safetensors", model)
    return losses


def begin(rank: int, processes: int, port: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=processes)


def of_four(rank: int, folder: str, port: int) -> None:
    begin(rank, 4, port)
    losses = {"first": trained({"dp": 2, "tp": 2}, 2, Path(folder, "a"))}
    losses["all"] = losses["first"] + trained({"dp": 2, "tp": 2}, 2, Path(folder, "a"))
    if rank == 0:
        shutil.copytree(Path(folder, "a/step-2"), Path(folder, "b/step-2"))
        shutil.copytree(Path(folder, "a/step-2"), Path(folder, "c/step-2"))
        Path(folder, "four.json").write_text(json.dumps(losses))
    dist.destroy_process_group()


def of_two(rank: int, folder: str, port: int) -> None:
    begin(rank, 2, port)
    found = {
        "b": trained({"dp": 2}, 2, Path(folder, "b"), seed=1),
        "c": trained({"tp": 2}, 2, Path(folder, "c"), seed=1),
    }
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("dp",))
    model: Any = motc.load(MOT, device="meta", dtype=torch.float64)  # as one that fits no single device
    motc.parallelize(model, mesh)
    model.to_empty(device="cpu")
    motc.load_weights(Path(folder, "a/step-4.safetensors"), model)
    motc.save_weights(Path(folder, "again.safetensors"), model)
    said = {}
    for name, spec, dimension in (("ids", MOT, "tp"), ("labels", MOT, "dp"), ("noise", LATENTS, "tp")):
        model = motc.load(spec)
        motc.parallelize(model, init_device_mesh("cpu", (2,), mesh_dim_names=(dimension,)))
        torch.manual_seed(rank)
        ids = torch.full((1, 4 + rank * (name == "ids")), rank * (name == "ids"))
        with pytest.raises(ValueError, match="ranks 0 and 1") as error:
            model(ids, torch.zeros_like(ids), labels=ids if name != "labels" or rank else None)
        said[name] = str(error.value)
    if rank == 0:
        Path(folder, "two.json").write_text(json.dumps(found))
        Path(folder, "said.json").write_text(json.dumps(said))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints")
    start(4, of_four, str(path))
    start(2, of_two, str(path))
    return path


def test_saved_on_four_and_resumed_on_two_the_curve_is_the_same(folder: Path) -> None:
    four, two = (json.loads((folder / f"{name}.json").read_text()) for name in ("four", "two"))
    assert len(four["all"]) == 4
    for other in ("b", "c"):
        assert two[other] == pytest.approx(four["all"][2:], rel=1e-10)
    assert four["all"][2] != pytest.approx(four["all"][0], rel=1e-3)


def test_one_file_of_weights_is_what_one_process_reads(folder: Path) -> None:
    one, again = (
        motc.load(weights=folder / name, dtype=torch.float64) for name in ("a/step-4.safetensors", "again.safetensors")
    )
    motc.load_checkpoint(folder / "a/step-4", checked := motc.load(MOT, dtype=torch.float64, seed=7))
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name))
        assert torch.equal(parameter, checked.get_parameter(name))


def test_ranks_that_differ_at_the_first_step_are_told(folder: Path) -> None:
    said = json.loads((folder / "said.json").read_text())
    assert "ranks 0 and 1 of tp differ in input_ids: int64 [1, 4], digest" in said["ids"]
    assert "ranks 0 and 1 of dp differ in labels: not given, and given" in said["labels"]
    assert "ranks 0 and 1 of tp differ in random state" in said["noise"] and "one seed" in said["noise"]


def test_what_is_no_checkpoint_of_the_model_is_refused(folder: Path, tmp_path: Path) -> None:
    model = motc.load(MOT, dtype=torch.float64)
    with pytest.raises(SpecError, match=r"another model.*norm\.eps: 1e-05"):
        motc.load_checkpoint(folder / "a/step-4", motc.load(MOT, set={"norm.eps": 1e-3}))
    with pytest.raises(SpecError, match=r"no checkpoint .*motc\.json"):
        motc.load_checkpoint(tmp_path, model)
    damaged = tmp_path / "damaged"
    shutil.copytree(folder / "a/step-4", damaged)
    part = next(damaged.glob("*.distcp"))
    part.unlink()
    with pytest.raises(SpecError, match=rf"lacks 1 of its 4 files: {part.name}"):
        motc.load_checkpoint(damaged, model)
    (damaged / ".metadata").unlink()
    with pytest.raises(SpecError, match="was not finished"):
        motc.load_checkpoint(damaged, model)
    motc.save_checkpoint(tmp_path / "alone", model)
    optimizer = torch.optim.AdamW(model.parameters())
    with pytest.raises(SpecError, match="has no optimizer's state"):
        motc.load_checkpoint(tmp_path / "alone", model, optimizer)
    assert newest_checkpoint(tmp_path) is None and newest_checkpoint(folder / "a") == folder / "a/step-4"
