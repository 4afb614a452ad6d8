"""A model on a mesh of devices: tensor parallelism, FSDP2, activation checkpointing and compiling, in that order."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from .batch_checks import check_first_batch
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
    check_first_batch(model, mesh, tuple(sizes))
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


def share_of_all(model: Any, losses: Any, mesh: DeviceMesh, counts: Mapping[str, Tensor] | None = None) -> Tensor:
    """What a rank calls `backward` of, so that gradients are those of the mean over all targets of all ranks.

    `losses` is what `model.loss` gave, for all of this rank's batch or for a part, with the `counts` then that
    `model.count` has of all parts together. Averaged over data-parallel ranks, and added up over parts, it is the mean.
    """
    counts = losses.weights if counts is None else counts
    weights = summed_over_data(torch.stack([weight.double() for weight in counts.values()]), mesh)
    share: Tensor = model.share(losses, dict(zip(counts, weights.unbind(), strict=True)))
    return share * data_ranks(mesh)


def data_ranks(mesh: DeviceMesh) -> int:
    """How many ranks, or groups of them, have batches of their own."""
    sizes = mesh_sizes(mesh)
    return sizes.get("replicate", 1) * sizes.get("dp", 1)


def summed_over_data(x: Tensor, mesh: DeviceMesh) -> Tensor:
    """The sum of x over the ranks, or groups of them, that have batches of their own; x is changed."""
    for name in mesh_sizes(mesh):
        if name != "tp":
            torch.distributed.all_reduce(x, group=(mesh[name] if mesh.mesh_dim_names else mesh).get_group())
    return x
