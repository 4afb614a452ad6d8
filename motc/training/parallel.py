"""A model on a mesh of devices: what `parallel.py` of its package does, for one that is not built but loaded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from motc.driver import generate_parallel
from motc.ir.model import Model
from motc.loading.source import import_source
from motc.training.copies import Trained
from motc.training.selectors import select

AnyModel = TypeVar("AnyModel", bound=nn.Module)


def parallelize(model: AnyModel, mesh: DeviceMesh, *, undivided: tuple[str, ...] = (), **settings: Any) -> AnyModel:
    """The model on a mesh of devices, changed in place; `settings` as docs/scaling.md has them.

    `undivided` are selectors of what tensor parallelism does not divide. Raises ValueError, before anything is changed,
    where ranks do not divide what they are to share, and TypeError for what is no model of motc's.
    """
    of = Trained(model)
    names = tuple(copy.prefix for copy in select(of, undivided).values()) if undivided else ()
    made: AnyModel = parallel_module_of(of.model).parallelize(of.network, mesh, undivided=names, **settings)
    return made


def share_of_all(model: nn.Module, losses: Any, mesh: DeviceMesh, counts: Mapping[str, Tensor] | None = None) -> Tensor:
    """What a rank calls `backward` of, so that gradients are those of the mean over the targets of all ranks.

    `losses` is what `model.loss` gave, for all of this rank's batch or for a part, with the `counts` then that
    `model.count` has of all parts together. Averaged over ranks, and added up over parts, it is that mean.
    """
    of = Trained(model)
    share: Tensor = parallel_module_of(of.model).share_of_all(of.network, losses, mesh, counts)
    return share


def clip_gradients(model: nn.Module, most: float) -> Tensor:
    """Scale a model's gradients, that their norm is at most so much; the norm that it was (docs/scaling.md)."""
    of = Trained(model)
    norm: Tensor = parallel_module_of(of.model).clip_gradients(of.network, most)
    return norm


@lru_cache(maxsize=8)
def parallel_module_of(model: Model) -> ModuleType:
    """The program's module of what puts a model on a mesh."""
    return import_source(generate_parallel(model))
