"""Numbers from Python on the device where they are needed, without waiting for what is queued there."""

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")

KEPT = dict[tuple[Hashable, ...], Tensor]()
"""Constants by what they say and where they are: the program's, so that no model's state, copy or pickle has them."""


def on_device(values: Any, device: torch.device) -> Tensor:
    """Nested lists or tuples of numbers on a device."""
    return torch.tensor(values, device="cpu").to(device, non_blocking=True)


def constant(values: tuple[Any, ...], device: torch.device) -> Tensor:
    """The same of nested tuples that will be asked for again: copied to a device once. Not to be written into."""
    if torch.compiler.is_compiling():  # a graph has constants of its own
        return on_device(values, device)
    return _kept((str(values), device), lambda: on_device(values, device))  # as text True is not 1


def made_once(make: Callable[Arguments, Tensor]) -> Callable[Arguments, Tensor]:
    """A function of numbers and a device whose result is kept for each of them. It is not to be written into."""

    @wraps(make)
    def kept(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Tensor:
        if torch.compiler.is_compiling():
            return make(*args, **kwargs)
        return _kept((make.__name__, args, *sorted(kwargs.items())), lambda: make(*args, **kwargs))

    return kept


def _kept(key: tuple[Hashable, ...], make: Callable[[], Tensor]) -> Tensor:
    """What is kept under a key, made if it is not there."""
    if key not in KEPT:
        with torch.inference_mode(False):
            copy = make()
        if type(copy) is not Tensor or torch._C._functorch.is_functorch_wrapped_tensor(copy):
            return copy  # what stands for a tensor while something is traced or transformed
        KEPT[key] = copy
    return KEPT[key]
