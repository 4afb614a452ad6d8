"""Experts on ranks with batches of their own: each has some of them whole, and gets all ranks' tokens for these.

"GShard" (Lepikhin et al., 2020). Tokens go to where their experts are before the first maps and back after the last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Shard, distribute_tensor

from .collectives import scale_gradients, sent
from .permute import permute
from .tensor_parallel import of_ranks
from .tokens import invert


class Journey(NamedTuple):
    """Where a batch's pairs of a token and an expert go."""

    of: Tensor | int  # where each expert's pairs end, as it was told; or how many pairs there are
    there: list[int]  # how many pairs go to each rank
    here: list[int]  # how many come from each
    order: Tensor  # int64 [m]: of those that came, by expert, the place in which they came
    inverse: Tensor  # int64 [m]
    ends: Tensor  # int32 [E / ranks]: where each own expert's pairs end then


class Mixture:
    """The maps of some experts, all of whose calls are for the same pairs until the last."""

    def __init__(self, ranks: int, group: Any) -> None:
        self.ranks, self.group = ranks, group
        self.journey: Journey | None = None

    def planned(self, x: Tensor, ends: Tensor | None, own: int) -> Journey:
        """The journey of pairs [n, w] of `own` experts on each rank, whose experts end at `ends`: as in `Experts`."""
        of = x.shape[0] if ends is None else ends
        if self.journey is None or (self.journey.of is not of if isinstance(of, Tensor) else self.journey.of != of):
            counts = torch.full((own * self.ranks,), x.shape[0] // (own * self.ranks), device=x.device)
            if ends is not None:
                counts = torch.diff(ends, prepend=ends.new_zeros(1)).long()
            theirs = torch.empty_like(counts)
            dist.all_to_all_single(theirs, counts, group=self.group)
            by_rank = theirs.view(self.ranks, own)
            expert = torch.arange(own, device=x.device).repeat(self.ranks).repeat_interleave(theirs)
            order = expert.argsort(stable=True)
            there, here = (each.view(self.ranks, own).sum(1).tolist() for each in (counts, theirs))
            own_ends = by_rank.sum(0).cumsum(0).int()
            self.journey = Journey(of, there, here, order, invert(order, order.numel()), own_ends)
        return self.journey


class ExpertPart(NamedTuple):
    """A map of this rank's experts, which others' tokens come to, or, `is_last`, leave from."""

    mixture: Mixture
    is_last: bool
    dtype: torch.dtype | None
    calls: bool = True  # something else than the map alone

    def local(self, name: str, whole: Tensor) -> Tensor:
        """What is computed with; gradients of all ranks' tokens are added up in it, where others' are averaged."""
        own = scale_gradients(whole, 1 / self.mixture.ranks)
        return own if self.dtype is None else own.to(self.dtype)

    def call(self, experts: nn.Module, forward: Callable[..., Tensor], x: Tensor, ends: Tensor | None = None) -> Tensor:
        """What own experts make of pairs [n, w] that came; of the last map what all experts made of own pairs."""
        mixture, own = self.mixture, cast(Tensor, experts.weight).shape[0]
        if not self.is_last:
            way = mixture.planned(x, ends, own)
            came = sent(x, way.there, way.here, mixture.group)
            return forward(permute(came, way.order, way.inverse, gaps=(False, False)), way.ends)
        way, mixture.journey = cast(Journey, mixture.journey), None
        y = permute(forward(x, way.ends), way.inverse, way.order, gaps=(False, False))
        return sent(y, way.here, way.there, mixture.group)


def divide_experts(model: nn.Module, mesh: DeviceMesh, dtype: torch.dtype | None) -> list[nn.Module]:
    """Have each rank of a mesh of one dimension some experts of every mixture; the modules that hold these.

    Raises ValueError, before anything is changed, where there are none, and where ranks do not divide them.
    """
    maps = {path: each for path, each in model.named_modules() if _experts(each)}
    if not maps:
        raise ValueError("the mesh has `ep`, and this model has no experts")
    faults = {_experts(each): path for path, each in maps.items() if _experts(each) % mesh.size()}
    if faults:
        told = "; ".join(f"{path} has {count} experts" for count, path in faults.items())
        raise ValueError(f"{mesh.size()} ranks of `ep` do not divide what they are to share: {told}")
    mixtures = dict[tuple[str, ...], Mixture]()
    for path, module in maps.items():
        layers, layer, role, leaf, *copy = path.split(".")
        shared = mixtures.setdefault((layers, layer, role, *copy), Mixture(mesh.size(), mesh.get_group()))
        names = [name for name, _ in module.named_parameters(recurse=False)]
        for name in names:
            whole = cast(nn.Parameter, module._parameters[name])
            local = distribute_tensor(whole.detach(), mesh, [Shard(0)], src_data_rank=None)
            module._parameters[name] = nn.Parameter(local, requires_grad=whole.requires_grad)
        module.__class__ = of_ranks(type(module), tuple(names), mesh, ExpertPart(shared, leaf == "down", dtype))

    def refused(*args: Any, **kwargs: Any) -> None:
        raise ValueError("a model whose experts are on several ranks is not compiled: how many tokens come is data")

    model.compile = refused  # type: ignore[method-assign]
    return list(maps.values())


def _experts(module: nn.Module) -> int:
    """How many experts a map has; 0 for another."""
    weight = module._parameters.get("weight")
    return weight.shape[0] if weight is not None and weight.ndim == 3 else 0
