"""Checkpoints of a race: one safetensors file a seed, which is whole at every moment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from motc.files import replacing
from motc.match.settings import MatchError

REMEDY = "remove it to begin this seed anew"


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], step: int) -> None:
    """Write aside, then rename: whatever happens meanwhile, `path` holds the old checkpoint or the new one.

    Raises MatchError where the disk is full or cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: x.detach().contiguous() for name, x in tensors.items()}
    try:
        with replacing(path) as aside:
            mode = aside.stat().st_mode
            save_file(tensors, aside, {"step": str(step), "sha256": digest(tensors)})
            aside.chmod(mode)  # safetensors gives it to this user alone
    except (OSError, SafetensorError) as error:
        kept = f"the checkpoint of step {saved_step(path)} is kept" if path.is_file() else "there is none before it"
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise MatchError(f"cannot write the checkpoint of step {step} to {path}: {reason}; {kept}") from None


def saved_step(path: Path) -> int:
    """How many steps a checkpoint has behind it. Raises MatchError where it is no checkpoint."""
    return read_checkpoint(path, only_step=True)[0]


def read_checkpoint(path: Path, *, only_step: bool = False) -> tuple[int, dict[str, Tensor]]:
    """The number of steps done, and the tensors, on the CPU. Raises MatchError for no checkpoint, and a damaged one."""
    from safetensors import SafetensorError, safe_open

    try:
        path.open("rb").close()  # what may not be read is no reason to remove it, and safetensors does not tell
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {} if only_step else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise MatchError(f"{path} cannot be read: {error.strerror or error}") from None
    except SafetensorError as error:
        raise MatchError(f"{path} is no whole checkpoint ({error}); {REMEDY}") from None
    step, written = metadata.get("step", ""), metadata.get("sha256")
    if not (step.isascii() and step.isdecimal() and len(step) < 20 and written):
        raise MatchError(f"{path} is no checkpoint of this motc match; {REMEDY}")
    if not only_step and digest(tensors) != written:
        raise MatchError(f"{path} is damaged: it does not hold what was written; {REMEDY}")
    return int(step), tensors


def digest(tensors: Mapping[str, Tensor]) -> str:
    """A hash of tensors: of their names, dtypes, shapes and numbers."""
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        x = tensors[name].cpu()
        hashed.update(f"{name} {x.dtype} {[*x.shape]}\n".encode())
        hashed.update(x.reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


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
