"""A model on a mesh of devices: tensor parallelism, FSDP2, activation checkpointing and compiling, in that order."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from .data_parallel import checkpoint_layers, shard
from .tensor_parallel import Division, divide

DIMENSIONS = ("replicate", "dp", "tp")
"""What a mesh's dimensions may be called, outermost first: copies of the model, its shards, and parts of its maps."""


def parallelized(
    model: Any,
    mesh: DeviceMesh,
    table: Mapping[str, Division],
    refused: str | None,
    *,
    undivided: Collection[str] = (),
    by_expert: bool = False,
    dtype: torch.dtype | None = None,
    reduce_dtype: torch.dtype | None = None,
    gathered: bool = False,
    checkpoint_every: int = 0,
) -> Any:
    """The model, changed in place, as `parallelize` says; the table is of its groups, or `refused` says why not."""
    sizes = mesh_sizes(mesh)
    ranks = sizes.get("tp", 1)
    if ranks > 1:
        if refused is not None:
            raise ValueError(f"this model has no tensor parallelism: {refused}")
        divide(model, mesh["tp"], table, by_expert, undivided)
    if checkpoint_every:
        checkpoint_layers(model, checkpoint_every)
    names = tuple(name for name in ("replicate", "dp") if name in sizes)
    if names:
        shard(model, mesh[names] if len(names) > 1 else mesh[names[0]], dtype, reduce_dtype, gathered)
    return model


def mesh_sizes(mesh: DeviceMesh) -> dict[str, int]:
    """A mesh's dimensions by name. Raises ValueError for names that mean nothing here, or another order."""
    names = mesh.mesh_dim_names or (("dp",) if mesh.ndim == 1 else ())
    known = [name for name in DIMENSIONS if name in names]
    if list(names) != known or not names:
        if "cp" in names:
            raise ValueError("the mesh has `cp`, and rows are not cut over ranks: there is no context parallelism")
        raise ValueError(f"the mesh's dimensions are {names}; they may be {', '.join(DIMENSIONS)}, in this order")
    return dict(zip(names, mesh.shape, strict=True))


def share_of_all(model: Any, losses: Any, mesh: DeviceMesh) -> Tensor:
    """What a rank calls `backward` of, so that gradients are those of the mean over all targets of all ranks.

    `losses` is what `model.loss` gave. Summed over data-parallel ranks it is their number times that mean.
    """
    sizes = mesh_sizes(mesh)
    weights = torch.stack([weight.double() for weight in losses.weights.values()])
    ranks = 1
    for name in ("replicate", "dp"):
        if name in sizes:
            ranks *= sizes[name]
            torch.distributed.all_reduce(
                weights, group=mesh[name].get_group() if mesh.mesh_dim_names else mesh.get_group()
            )
    share: Tensor = model.share(losses, dict(zip(losses.weights, weights.unbind(), strict=True)))
    return share * ranks
