"""Checkpoints of a race: one safetensors file a seed, which is whole at every moment."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from motc.match.settings import MatchError


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], step: int) -> None:
    """Write aside, then rename: whatever happens meanwhile, `path` holds the old checkpoint or the new one.

    Raises MatchError where the disk is full or cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    aside = path.with_name(f"{path.name}.partial")
    try:
        save_file({name: x.detach().contiguous() for name, x in tensors.items()}, aside, {"step": json.dumps(step)})
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        kept = f"the checkpoint of step {saved_step(path)} is kept" if path.is_file() else "there is none before it"
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise MatchError(f"cannot write the checkpoint of step {step} to {path}: {reason}; {kept}") from None


def saved_step(path: Path) -> int:
    """How many steps a checkpoint has behind it. Raises MatchError where it is no checkpoint."""
    return read_checkpoint(path, only_step=True)[0]


def read_checkpoint(path: Path, *, only_step: bool = False) -> tuple[int, dict[str, Tensor]]:
    """The number of steps done, and the tensors, on the CPU. Raises MatchError where it is no checkpoint."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            step = int(json.loads(file.metadata()["step"]))
            return step, {} if only_step else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        raise MatchError(f"{path} is no checkpoint of motc match; remove it to begin this seed anew") from None


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """The optimizer's state by parameter name and key."""
    return {f"{names[x]}/{key}": value for x, state in optimizer.state.items() for key, value in state.items()}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str], saved: Mapping[str, Tensor]
) -> None:
    """The inverse of `optimizer_tensors`; what is kept on the CPU, as AdamW's number of steps, stays there."""
    by_name = {name: x for x, name in names.items()}
    for path, value in saved.items():
        name, _, key = path.rpartition("/")
        x = by_name[name]
        optimizer.state[x][key] = value.to(x.device) if value.ndim else value
