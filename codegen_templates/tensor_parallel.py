"""Parameters that ranks with the same tokens share, as DTensors of which each computes with its part.

A module's `weight` is then this rank's part of it, a plain tensor: what is written for one device runs as it stands.
Only linear maps and tables are called otherwise, and sum over ranks what they give, or what comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.nn import functional as F

from .collectives import join_results, sum_gradients, sum_results


class Division(NamedTuple):
    """How a copy of a group is divided: in so many equal `units` that stay whole.

    `way`: by "columns" each rank makes numbers of its own, by "rows" it takes such, and results are added up.
    "look_up": each has some ids' rows of a table; "logits": it makes those of some ids. "by_head": it has numbers of
    its heads. What is of "each_head", or makes a vector for "all_heads", is whole, and ranks have their heads' parts of
    its gradient. `of` is what units are; of "kv_heads" several ranks may have the same one.
    """

    way: str
    units: int
    of: str
    by_expert: bool = False  # each rank has all of some experts


class Part(NamedTuple):
    """A division, and which part this rank has."""

    division: Division
    rank: int
    ranks: int
    group: Any

    @property
    def is_one_of_few(self) -> bool:
        """Whether several ranks have the same head of keys or values."""
        return self.division.of == "kv_heads" and self.division.units % self.ranks != 0

    def dimension(self, name: str, parameter: Tensor) -> int | None:
        """Along which dimension a parameter is cut; None where each rank has all of it."""
        way = self.division.way
        if self.is_one_of_few or way in ("each_head", "all_heads"):
            return None
        if self.division.by_expert or way in ("look_up", "by_head"):
            return 0
        if way == "rows":
            return parameter.ndim - 1 if name == "weight" else None
        return parameter.ndim - (2 if name == "weight" else 1)

    def local(self, name: str, whole: Tensor) -> Tensor:
        """What this rank computes with, of the part that is kept here; its gradient is the parameter's."""
        way = self.division.way
        if way == "rows" and name == "bias" and not self.division.by_expert:
            return sum_gradients(whole, self.group) / self.ranks  # as results are added up
        if way == "each_head":
            return sum_gradients(whole, self.group)
        if self.is_one_of_few:
            size = whole.shape[0] // self.division.units
            return sum_gradients(whole, self.group).narrow(
                0, self.rank * self.division.units // self.ranks * size, size
            )
        return whole

    @property
    def calls(self) -> bool:
        """Whether a call is something else than the module's own forward."""
        return self.division.way not in ("each_head", "by_head")

    def call(self, module: nn.Module, forward: Callable[..., Tensor], x: Tensor, *more: Any) -> Tensor:
        """What all ranks together make of x, as far as this rank goes on with it."""
        way = self.division.way
        if self.division.by_expert:
            return self._some_experts(forward, x, *more)
        if way == "look_up":
            size = self.division.units // self.ranks
            own = x - self.rank * size
            mine = (own >= 0) & (own < size)
            vectors = forward(torch.where(mine, own, 0))
            return sum_results(torch.where(mine[..., None], vectors, 0.0), self.group)
        if way in ("columns", "logits"):
            y = forward(sum_gradients(x, self.group), *more)
            return join_results(y, self.group) if way == "logits" else y
        y = forward(x, *more)
        if way == "rows":
            return sum_results(y, self.group)
        return sum_gradients(y, self.group) if way == "all_heads" else y

    def _some_experts(self, forward: Callable[..., Tensor], x: Tensor, ends: Tensor | None = None) -> Tensor:
        """What this rank's experts make of their tokens, zeros for others; what they give the stream is added up."""
        each, pairs = self.division.units // self.ranks, x.shape[0]
        if ends is None:
            first, last, own = pairs * self.rank // self.ranks, pairs * (self.rank + 1) // self.ranks, None
        else:
            bounds = [0, *ends.tolist()]
            first, last = bounds[each * self.rank], bounds[each * (self.rank + 1)]
            own = ends[each * self.rank : each * (self.rank + 1)] - first
        is_last = self.division.way == "rows"
        x = x if is_last else sum_gradients(x, self.group)
        y = F.pad(forward(x[first:last], own), (0, 0, first, pairs - last))
        return sum_results(y, self.group) if is_last else y


def divide(
    model: nn.Module,
    mesh: DeviceMesh,
    table: Mapping[str, Division],
    by_expert: bool = False,
    undivided: Collection[str] = (),
) -> None:
    """Make every parameter a DTensor over a mesh of one dimension, divided as the table says of its copy.

    The table has copies by what the names of their parameters begin with, or by that without `layers.N.`. Of those that
    are `undivided`, by the beginning of their names, each rank has all. Raises ValueError, before anything is changed,
    where ranks do not divide what they are to share.
    """
    parts = parts_of(model, mesh, table, by_expert, undivided)
    for path, module in model.named_modules():
        names = [name for name, parameter in module.named_parameters(recurse=False)]
        if not names:
            continue
        part = parts.get(path)
        for name in names:
            parameter = cast(nn.Parameter, module._parameters[name])
            dimension = None if part is None else part.dimension(name, parameter)
            placement = Replicate() if dimension is None else Shard(dimension)
            local = distribute_tensor(parameter.detach(), mesh, [placement], src_data_rank=None)
            module._parameters[name] = nn.Parameter(local, requires_grad=parameter.requires_grad)
        module.__class__ = of_ranks(type(module), tuple(names), mesh, part)


def parts_of(
    model: nn.Module, mesh: DeviceMesh, table: Mapping[str, Division], by_expert: bool, undivided: Collection[str]
) -> dict[str, Part]:
    """The part of each copy that is divided, by the name of its module. Raises ValueError as `divide` does."""
    rank, ranks, group = mesh.get_local_rank(), mesh.size(), mesh.get_group()
    parts, faults = dict[str, Part](), dict[tuple[str, int], str]()
    for path, module in model.named_modules():
        division = table.get(path) or table.get(".".join(path.split(".")[2:]) if path.startswith("layers.") else path)
        if division is None:
            continue
        if any(path == each or path.startswith(f"{each}.") for each in undivided):
            if division.of in ("heads", "kv_heads"):
                raise ValueError(f"{path} cannot stay whole: towers meet in attention, which is divided by heads")
            continue
        weight = module._parameters["weight"]
        if by_expert and weight is not None and weight.ndim == 3:
            division = Division(division.way, weight.shape[0], "experts", by_expert=True)
        part = Part(division, rank, ranks, group)
        fits = division.way in ("each_head", "all_heads") or division.units % ranks == 0
        if not fits and not (division.of == "kv_heads" and ranks % division.units == 0):
            faults.setdefault((division.of, division.units), path)
        parts[path] = part
    if faults:
        told = "; ".join(f"{path} has {count} {unit}" for (unit, count), path in faults.items())
        raise ValueError(f"{ranks} tensor-parallel ranks do not divide what they are to share: {told}")
    return parts


class Computes(Protocol):
    """What a rank computes with of a module's parameters, and makes of its calls."""

    @property
    def calls(self) -> bool: ...

    def local(self, name: str, whole: Tensor) -> Tensor: ...

    def call(self, module: nn.Module, forward: Callable[..., Tensor], x: Tensor, *more: Any) -> Tensor: ...


def of_ranks(cls: type[nn.Module], names: tuple[str, ...], mesh: DeviceMesh, part: Computes | None) -> type[nn.Module]:
    """The class whose instances compute with this rank's part of their parameters.

    What FSDP has not collected, which lies on its mesh too, is given as it is.
    """

    def computed_with(name: str) -> property:
        def local(module: nn.Module) -> Tensor:
            parameter: Any = module._parameters[name]
            if not isinstance(parameter, DTensor) or parameter.device_mesh.ndim > mesh.ndim:
                return cast(Tensor, parameter)
            return parameter.to_local() if part is None else part.local(name, parameter.to_local())

        return property(local)

    members: dict[str, Any] = {name: computed_with(name) for name in names}
    if part is not None and part.calls:
        whole = cls.forward

        def forward(self: nn.Module, x: Tensor, *more: Any) -> Tensor:
            return part.call(self, lambda *given: whole(self, *given), x, *more)

        members["forward"] = forward
    return type(cls.__name__, (cls,), members)
