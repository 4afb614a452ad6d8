"""Text to module: the generated file, imported and filled."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from motc import __version__
from motc.driver import check_spec, final_ir, spec_text
from motc.emit import emit
from motc.ir.execution import Strategy
from motc.ir.model import Model
from motc.loading.arguments import read_device, read_dtype, read_seed
from motc.loading.source import import_source
from motc.plan import plan
from motc.syntax.given import spec_source
from motc.weights.kept import kept_with, require_same
from motc.weights.read import fill
from motc.weights.stored import open_weights

__all__ = ["import_source", "instantiate", "load"]


def load(
    spec: str | PathLike[str] | Mapping[str, Any] | None = None,
    *,
    weights: str | PathLike[str] | None = None,
    dense: bool = False,
    set: Mapping[str, Any] | None = None,
    device: str | int | torch.device = "cpu",
    dtype: str | torch.dtype = torch.float32,
    seed: int = 0,
    strategy: Strategy | None = None,
) -> nn.Module:
    """The model a spec describes, or its dense twin, in train mode, initialised from `seed` or with the weights given.

    `weights` is a safetensors file that `motc.save` wrote, or the index or folder of several; each tensor is read by
    itself. Those of another model are refused. Without a `spec` it is the one that the weights are of.
    `spec` is a path, a text in either syntax (a str with a line break or a `{`), or the YAML form as a dict.
    `set` overrides the spec by dotted keys, as `--set` does. `dtype` may be a name, such as "bfloat16". On
    `device="meta"` nothing is allocated or initialised. `strategy` says how modalities are told apart, as
    docs/execution.md explains; None is "sorted". In a notebook the model is shown as its drawing.
    Raises SpecError if the spec or the weights are wrong, ValueError or TypeError for another argument, and OSError.
    """
    if set is not None and not (isinstance(set, Mapping) and all(isinstance(key, str) for key in set)):
        raise TypeError(f"set is {reprlib.repr(set)}; it may be a dict, such as {{'attention.heads': 8}}")
    device, dtype, seed = read_device(device), read_dtype(dtype), read_seed(seed)
    stored = None if weights is None else open_weights(Path(weights))
    if spec is not None:
        source = spec_source(spec)
    elif stored is not None:
        kept = kept_with(stored)
        source, dense = kept.spec, dense or kept.dense
    else:
        raise TypeError("a spec is a path, a text or a mapping, or is left out where there are weights")
    checked = check_spec(source, set)
    model = final_ir(checked, dense=dense, strategy=strategy)
    if stored is not None:
        require_same(stored, model)
    text = spec_text(checked, dense=dense)
    network = instantiate(model, device=device, dtype=dtype, seed=seed if stored is None else None, spec=text)
    _show_in_notebooks(type(network), model)
    if stored is not None:
        fill(network, stored)
    return network


def _show_in_notebooks(cls: type[nn.Module], model: Model) -> None:
    """Have models of a generated class, which each call of `load` has anew, shown as their drawing."""

    def drawing(_: nn.Module) -> str:
        from motc.report.notebook import model_html

        return model_html(model)

    cast(Any, cls)._repr_html_ = drawing


def instantiate(
    model: Model,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int | None = 0,
    spec: str = "",
) -> nn.Module:
    """The module of a final IR, whose text quotes that of its spec; without a seed its parameters hold anything."""
    planned = plan(model)
    module = import_source(emit(planned, __version__, spec))
    with torch.device("meta"), _Unfilled():
        network = cast(nn.Module, getattr(module, planned.class_name)()).to(dtype)
    if torch.device(device).type == "meta":
        return network
    # As `to_empty` does, by `empty_like`, which from meta to another device is run in Python and takes far longer.
    cast(Any, network)._apply(lambda x: torch.empty(x.shape, dtype=x.dtype, device=device))
    if seed is not None:
        cast(Any, network).init_weights(seed)
    return network


class _Unfilled(TorchFunctionMode):
    """Modules draw no numbers of their own as they are made: on the meta device that would import torch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        return given["tensor"] if getattr(func, "__module__", "") == "torch.nn.init" else func(*args, **given)
