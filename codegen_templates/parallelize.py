"""A model on a mesh of devices: its maps divided, its rows cut, its layers checkpointed, its parameters sharded."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from .batch_checks import check_first_batch
from .context_parallel import cut_rows
from .data_parallel import checkpoint_layers, shard
from .expert_parallel import divide_experts
from .tensor_parallel import Division, divide


class RowHeads(NamedTuple):
    """What ranks that share the tokens of rows also share: an attention's heads and kv_heads, each pair once."""

    heads: tuple[tuple[int, int], ...]
    refused: str | None = None  # why rows cannot be cut

    def check(self, ranks: int, of_heads: int) -> None:
        """Raise ValueError where so many ranks cannot cut rows, of heads that are divided by so many already."""
        if self.refused is not None:
            raise ValueError(f"this model has no context parallelism: {self.refused}")
        for heads, kv_heads in self.heads:
            own, own_kv = heads // of_heads, max(1, kv_heads // of_heads)
            if own % ranks or (own_kv % ranks and ranks % own_kv):
                divided = "" if of_heads == 1 else f" on each of {of_heads} tensor-parallel ranks"
                raise ValueError(
                    f"{ranks} ranks of `cp` do not divide {own} heads and {own_kv} kv_heads of attention{divided}"
                )


DIMENSIONS = ("replicate", "dp", "ep", "cp", "tp")
"""What a mesh's dimensions may be called, outermost first: copies of the model, its shards, shards of which each also
has some experts, parts of each row's tokens, and parts of maps.
"""
ONE_BATCH = ("cp", "tp")
"""Those whose ranks have one batch between them."""


def parallelized(
    model: Any,
    mesh: DeviceMesh,
    table: Mapping[str, Division],
    refused: str | None,
    rows: RowHeads,
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
    ranks, cut = sizes.get("tp", 1), sizes.get("cp", 1)
    if cut > 1:
        rows.check(cut, ranks)
    if ranks > 1:
        if refused is not None:
            raise ValueError(f"this model has no tensor parallelism: {refused}")
        divide(model, mesh["tp"], table, by_expert, undivided)
    experts = divide_experts(model, mesh["ep"], dtype) if sizes.get("ep", 1) > 1 else []
    if cut > 1:
        cut_rows(model, mesh["cp"], checkpoint_every)
    elif checkpoint_every:
        checkpoint_layers(model, checkpoint_every)
    check_first_batch(model, mesh, tuple(sizes), ONE_BATCH)
    if any(name != "tp" for name in sizes):
        apart = dict.fromkeys(experts, mesh["dp"] if experts and "dp" in sizes else None)
        shard(model, sharded_over(mesh), dtype, reduce_dtype, gathered, apart)
    return model


def sharded_over(mesh: DeviceMesh) -> DeviceMesh:
    """The dimensions of a mesh that parameters are sharded over, as one, or after that which has copies."""
    names = tuple(name for name in mesh_sizes(mesh) if name != "tp")
    if not mesh.mesh_dim_names:
        return mesh
    shards = tuple(name for name in names if name != "replicate")
    if len(shards) < 2:
        return mesh[names] if len(names) > 1 else mesh[names[0]]
    as_one = mesh[shards]._flatten()
    return DeviceMesh._concatenate([mesh["replicate"], as_one]) if "replicate" in names else as_one


def mesh_sizes(mesh: DeviceMesh) -> dict[str, int]:
    """A mesh's dimensions by name. Raises ValueError for names that mean nothing here, or another order."""
    names = mesh.mesh_dim_names or (("dp",) if mesh.ndim == 1 else ())
    known = [name for name in DIMENSIONS if name in names]
    if list(names) != known or not names:
        raise ValueError(f"the mesh's dimensions are {names}; they may be {', '.join(DIMENSIONS)}, in this order")
    if "ep" in names and not {*names} <= {"dp", "ep"}:
        raise ValueError(f"the mesh's dimensions are {names}, and `ep` goes with `dp` alone")
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
    return math.prod(size for name, size in sizes.items() if name not in ONE_BATCH)


def summed_over_data(x: Tensor, mesh: DeviceMesh) -> Tensor:
    """The sum of x over the ranks, or groups of them, that have batches of their own; x is changed."""
    for name in mesh_sizes(mesh):
        if name not in ONE_BATCH:
            torch.distributed.all_reduce(x, group=(mesh[name] if mesh.mesh_dim_names else mesh).get_group())
    return x


def clip_gradients(model: Any, most: float) -> Tensor:
    """Scale the gradients of all parameters, that their norm is at most so much; the norm that it was.

    As `torch.nn.utils.clip_grad_norm_`, which wants all on one mesh: with `ep` experts are on another.
    """
    by_mesh = dict[Any, list[Any]]()
    for parameter in model.parameters():
        if parameter.grad is not None:
            by_mesh.setdefault(getattr(parameter.grad, "device_mesh", None), []).append(parameter)
    norms: list[Any] = [get_total_norm([each.grad for each in parameters]) for parameters in by_mesh.values()]
    norm: Tensor = torch.stack([each.full_tensor() if hasattr(each, "full_tensor") else each for each in norms]).norm()
    for parameters in by_mesh.values():
        clip_grads_with_norm_(parameters, most, norm)
    return norm
