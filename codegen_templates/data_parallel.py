"""FSDP2 of a model: a unit for each layer, and for the tables and heads outside of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.utils.checkpoint import checkpoint

CALLED = ("loss", "generate", "denoise")
"""What is called of a model beside itself, as far as it has it."""


def shard(
    model: Any,
    mesh: DeviceMesh,
    dtype: torch.dtype | None,
    reduced: torch.dtype | None,
    gathered: bool,
    apart: Mapping[nn.Module, DeviceMesh | None],
) -> None:
    """Divide every parameter over a mesh, of whose two dimensions, if it has two, the first has copies.

    Layers compute in `dtype`, and gradients are added up in `reduced`; None is as the parameters are. With `gathered`
    what a forward has collected is kept for the backward, and not collected again. Modules that are `apart` are divided
    over a mesh of their own, or over none.
    """
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=reduced, cast_forward_inputs=False)
    how: dict[str, Any] = {"mp_policy": policy}
    how["ignored_params"] = {each for part, own in apart.items() if own is None for each in part.parameters()}
    for part, own in apart.items():
        if own is not None:
            fully_shard(part, mesh=own, mp_policy=policy, reshard_after_forward=not gathered)
    for unit in units(model):
        fully_shard(unit, mesh=mesh, reshard_after_forward=not gathered, **how)
    fully_shard(model, mesh=mesh, **how)
    for name in CALLED:
        if hasattr(model, name):
            register_fsdp_forward_method(model, name)


def units(model: Any) -> list[nn.Module]:
    """The parts that are collected by themselves, each when it is called: layers, tables of ids and heads.

    What is read without being called, such as a table that is the head too, is collected with the model.
    """
    ends = list[nn.Module]()
    if getattr(model, "head", None) is not None:
        of_head = model.head
        ends = [model.embedding]
        if not hasattr(of_head, "is_grouped_product"):
            ends += [*of_head.values()] if isinstance(of_head, nn.ModuleDict) else [of_head]
    return [*ends, *model.layers]


class Checkpointed:
    """A layer's forward that keeps what it is given alone: what is `within` is run again in the backward."""

    def __init__(self, within: Callable[..., Any]) -> None:
        self.within = within

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return checkpoint(self.within, *args, use_reentrant=False, **kwargs)


def checkpoint_layers(model: Any, every: int = 1) -> None:
    """Have each layer, or one of so many, keep what it is given alone: the rest is made again in the backward."""
    for layer in model.layers[::every]:
        layer.forward = Checkpointed(layer.forward)
