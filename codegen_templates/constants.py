"""Numbers from Python on the device where they are needed, without waiting for what is queued there."""

from typing import Any

import torch
from torch import Tensor

KEPT = dict[tuple[str, torch.device], Tensor]()
"""Constants by what they say and where they are: the program's, so that no model's state, copy or pickle has them."""


def on_device(values: Any, device: torch.device) -> Tensor:
    """Nested lists or tuples of numbers on a device."""
    return torch.tensor(values, device="cpu").to(device, non_blocking=True)


def constant(values: tuple[Any, ...], device: torch.device) -> Tensor:
    """The same of nested tuples that will be asked for again: copied to a device once. Not to be written into."""
    if torch.compiler.is_compiling():  # a graph has constants of its own
        return on_device(values, device)
    key = str(values), device  # as text True is not 1
    if key not in KEPT:
        with torch.inference_mode(False):
            copy = on_device(values, device)
        if type(copy) is not Tensor or torch._C._functorch.is_functorch_wrapped_tensor(copy):
            return copy  # what stands for a tensor while something is traced or transformed
        KEPT[key] = copy
    return KEPT[key]
