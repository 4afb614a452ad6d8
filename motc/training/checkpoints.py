"""Checkpoints of training on a mesh: parameters and the optimizer's state in parts, read on any other mesh.

They are those of `torch.distributed.checkpoint`, with the spec beside them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from motc.source import SourceFile
from motc.training.copies import generated_in
from motc.weights.header import refuse
from motc.weights.kept import HASH, SPEC, TWIN, VERSION, Kept, kept_by, metadata_of, require_same, require_same_kept
from motc.weights.read import fill
from motc.weights.stored import open_weights
from motc.weights.write import save

BESIDE = "motc.json"
COMPLETE = ".metadata"
"""What torch writes last."""


def save_checkpoint(
    folder: str | PathLike[str],
    model: nn.Module,
    optimizer: Optimizer | None = None,
    progress: Mapping[str, Any] | None = None,
    *,
    asynchronous: bool = False,
) -> Any:
    """Write a model's parts, and its optimizer's, into a folder; all processes call it, each writes what it has.

    `progress` is what JSON can hold, such as a step and a sampler's state, of the first process. The folder is complete
    when it has `.metadata`. `asynchronous`: parts are copied, and written while training goes on; a future is returned,
    to be waited for before the next one. Raises OSError.
    """
    folder, network = Path(folder), generated_in(model)
    if _rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / COMPLETE).unlink(missing_ok=True)
        beside = {**metadata_of(kept_by(network)), "progress": dict(progress or {})}
        (folder / BESIDE).write_text(json.dumps(beside, indent=2), encoding="utf-8")
    if dist.is_initialized():
        dist.barrier()
    state, where = _state(network, optimizer), str(folder)
    if not asynchronous:
        write: Any = dcp.save  # type: ignore[attr-defined]
        write(state, checkpoint_id=where, **_alone())
        return None
    write = dcp.async_save  # type: ignore[attr-defined]
    return write(state, checkpoint_id=where, process_group=_beside_training(dist.group.WORLD), **_alone())


@cache
def _beside_training(world: Any) -> Any:
    """A group for what is written while training goes on, whose own sums it must not meet; None for one process."""
    return None if world is None else dist.new_group(backend="gloo")


def load_checkpoint(folder: str | PathLike[str], model: nn.Module, optimizer: Optimizer | None = None) -> Any:
    """Fill a model and its optimizer with what a checkpoint has, whatever mesh wrote it; its progress is returned.

    Raises SpecError where the folder is no checkpoint, is of another spec, was not finished, or lacks a file.
    """
    folder, network = Path(folder), generated_in(model)
    kept, progress = read_beside(folder)
    require_same_kept(kept, str(folder), kept_by(network).model())
    check_complete(folder, with_optimizer=optimizer is not None)
    hooks = {} if optimizer is None else dict(optimizer._optimizer_step_pre_hooks)
    if optimizer is not None:  # torch makes state by a step without gradients, which skip_absent would pass over
        optimizer._optimizer_step_pre_hooks.clear()
    state = _state(network, optimizer)
    read: Any = dcp.load  # type: ignore[attr-defined]
    read(state, checkpoint_id=str(folder), **_alone())
    set_model_state_dict(network, state["model"])
    if optimizer is not None:
        set_optimizer_state_dict(network, optimizer, state["optimizer"])
        optimizer._optimizer_step_pre_hooks.update(hooks)
    return progress


def read_beside(folder: Path) -> tuple[Kept, Any]:
    """What a checkpoint says of its model, and the progress of training. Raises SpecError where there is no such."""
    try:
        beside = json.loads((folder / BESIDE).read_text(encoding="utf-8"))
        spec, progress = SourceFile(f"{folder}:spec.mot", beside[SPEC]), beside["progress"]
        dense = beside.get(TWIN) == "dense"
        return Kept(spec=spec, dense=dense, semantic_hash=beside[HASH], version=beside[VERSION]), progress
    except (OSError, ValueError, KeyError, TypeError) as error:
        refuse(f"{folder} is no checkpoint that motc.save_checkpoint wrote: {BESIDE}: {error}")


def check_complete(folder: Path, *, with_optimizer: bool) -> None:
    """Raise SpecError where a checkpoint was not finished or lacks a file, or has no optimizer's state."""
    if not (folder / COMPLETE).exists():
        refuse(f"{folder} was not finished: it has no {COMPLETE}, which is written last")
    metadata = FileSystemReader(folder).read_metadata()
    files = sorted({each.relative_path for each in (metadata.storage_data or {}).values()})
    missing = [name for name in files if not (folder / name).exists()]
    if missing:
        refuse(f"{folder} lacks {len(missing)} of its {len(files)} files: {', '.join(missing[:4])}")
    if with_optimizer and not any(name.startswith("optimizer.") for name in metadata.state_dict_metadata):
        refuse(f"{folder} has no optimizer's state: load it without one")


def newest_checkpoint(folder: str | PathLike[str]) -> Path | None:
    """Of the folders `step-N` in this one the finished one with the largest N; None where there is none."""
    steps = {int(path.parent.name.split("-")[1]): path.parent for path in Path(folder).glob(f"step-*/{COMPLETE}")}
    return steps[max(steps)] if steps else None


def save_weights(path: str | PathLike[str], model: nn.Module) -> None:
    """The weights of a model in parts as one safetensors file, which the first process writes; all call it."""
    network = generated_in(model)
    whole: dict[str, Any] = get_model_state_dict(
        network, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    if _rank() == 0:
        save(network, path, tensors=whole)
    if dist.is_initialized():
        dist.barrier()


def load_weights(path: str | PathLike[str], model: nn.Module) -> None:
    """Fill a model, whole or in parts, with weights of a safetensors file: each process reads a tensor at a time.

    Raises SpecError where they are not of this model.
    """
    network, stored = generated_in(model), open_weights(Path(path))
    require_same(stored, kept_by(network).model())
    fill(network, stored)


def _state(network: nn.Module, optimizer: Optimizer | None) -> dict[str, Any]:
    """What a checkpoint has."""
    state: dict[str, Any] = {"model": get_model_state_dict(network)}
    return state if optimizer is None else {**state, "optimizer": get_optimizer_state_dict(network, optimizer)}


def _alone() -> dict[str, bool]:
    """What torch is told where there is one process, and no group of them."""
    return {} if dist.is_initialized() else {"no_dist": True}


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0
