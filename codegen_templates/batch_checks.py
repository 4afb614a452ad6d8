"""What ranks may not differ in, asked once, at the first step: an error with what differs, and not a hang."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh


def check_first_batch(model: nn.Module, mesh: DeviceMesh, names: tuple[str, ...], one_batch: tuple[str, ...]) -> None:
    """Have the model's first call ask all ranks what they were given: by these names of the mesh's dimensions.

    Ranks of those in `one_batch` are to have the same, and to draw the same noise; others to do the same with theirs.
    Raises ValueError on all ranks of a group in which some differ.
    """

    def ask(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        handle.remove()
        for name in names:
            group = (mesh[name] if mesh.mesh_dim_names else mesh).get_group()
            compare(name, told(module, arguments, named, name in one_batch), group, name in one_batch)

    handle = model.register_forward_pre_hook(ask, with_kwargs=True)


def told(module: nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any], same_batch: bool) -> dict[str, str]:
    """What a rank says of its call, by what that is of."""
    said = {"gradients": "with" if torch.is_grad_enabled() else "without"}
    if not same_batch:
        return {**said, "labels": "not given" if named.get("labels") is None else "given"}
    given = dict(zip(("input_ids", "modality_ids"), arguments, strict=False)) | dict(named)
    for name, value in given.items():
        for key, each in value.items() if isinstance(value, Mapping) else [("", value)]:
            if isinstance(each, Tensor):
                said[f"{name} {key}".strip()] = digest(each)
    if hasattr(module, "latents") and (named.get("noise") is None or named.get("timesteps") is None):
        said["random state"] = digest(torch.get_rng_state())
    return said


def digest(x: Tensor) -> str:
    """A tensor's dtype and shape, and a few letters for what is in it."""
    numbers = x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}, digest {hashlib.blake2b(numbers).hexdigest()[:8]}"


def compare(name: str, own: dict[str, str], group: Any, same_batch: bool) -> None:
    """Raise ValueError where a rank of the group says something else than the first."""
    everyone: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(everyone, own, group=group)
    for rank, said in enumerate(everyone):
        for what in {**everyone[0], **said}:
            first, other = (each.get(what, "not given") for each in (everyone[0], said))
            if first != other:
                hint = f"ranks of {name} have one batch between them, and one seed" if same_batch else "all do the same"
                raise ValueError(f"ranks 0 and {rank} of {name} differ in {what}: {first}, and {other}; {hint}")
