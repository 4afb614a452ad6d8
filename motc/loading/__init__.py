"""Text to module: the generated file, imported and filled."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from os import PathLike
from typing import Any, cast

import torch
from torch import nn

from motc import __version__
from motc.driver import compile_ir
from motc.emit import emit
from motc.ir.execution import Strategy
from motc.ir.model import Model
from motc.loading.arguments import read_device, read_dtype, read_seed
from motc.loading.source import import_source
from motc.plan import plan
from motc.syntax.given import spec_source

__all__ = ["import_source", "instantiate", "load"]


def load(
    spec: str | PathLike[str] | Mapping[str, Any],
    *,
    dense: bool = False,
    set: Mapping[str, Any] | None = None,
    device: str | int | torch.device = "cpu",
    dtype: str | torch.dtype = torch.float32,
    seed: int = 0,
    strategy: Strategy | None = None,
) -> nn.Module:
    """The model a spec describes, or its dense twin, in train mode, initialised from `seed`.

    `spec` is a path, a text in either syntax (a str with a line break or a `{`), or the YAML form as a dict.
    `set` overrides the spec by dotted keys, as `--set` does. `dtype` may be a name, such as "bfloat16". On
    `device="meta"` nothing is allocated or initialised. `strategy` says how modalities are told apart, as
    docs/execution.md explains; None is "sorted".
    Raises SpecError if the spec is wrong, ValueError or TypeError for another argument.
    """
    if set is not None and not (isinstance(set, Mapping) and all(isinstance(key, str) for key in set)):
        raise TypeError(f"set is {reprlib.repr(set)}; it may be a dict, such as {{'attention.heads': 8}}")
    device, dtype, seed = read_device(device), read_dtype(dtype), read_seed(seed)
    model = compile_ir(spec_source(spec), set, dense=dense, strategy=strategy)
    return instantiate(model, device=device, dtype=dtype, seed=seed)


def instantiate(
    model: Model, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, seed: int = 0
) -> nn.Module:
    """The module of a final IR."""
    planned = plan(model)
    module = import_source(emit(planned, __version__))
    with torch.device("meta"):
        network = cast(nn.Module, getattr(module, planned.class_name)()).to(dtype)
    if torch.device(device).type == "meta":
        return network
    # As `to_empty` does, by `empty_like`, which from meta to another device is run in Python and takes far longer.
    cast(Any, network)._apply(lambda x: torch.empty(x.shape, dtype=x.dtype, device=device))
    cast(Any, network).init_weights(seed)
    return network
