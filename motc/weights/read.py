"""Tensors of files, read one at a time, and a model filled with them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from motc.weights.fit import check_dtype, check_fit
from motc.weights.header import Entry, refuse
from motc.weights.stored import Stored, read_numbers

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Those that weights may have, by what files call them."""


def read_tensor(name: str, entry: Entry) -> Tensor:
    """One tensor, on the CPU, in memory of its own. Raises SpecError where it is not of floating point, or
    has what is no finite number in it, and OSError."""
    check_dtype(name, entry)
    numbers, dtype = read_numbers(name, entry), DTYPES[entry.dtype]
    if not numbers:
        return torch.empty(entry.shape, dtype=dtype)
    tensor = torch.frombuffer(numbers, dtype=dtype).view(entry.shape)
    least, largest = torch.aminmax(tensor)
    for extreme in (least, largest):
        if not extreme.isfinite():
            refuse(f"{entry.path}: {name} has {'NaN' if extreme.isnan() else 'infinity'} in it")
    return tensor


@torch.no_grad()
def fill(network: nn.Module, stored: Stored) -> None:
    """Give a model the weights stored, one tensor at a time, in the model's dtypes and on its device.

    Of parameters that are in parts each process takes its own.
    Raises SpecError, before anything is moved, for tensors that are missing, left over, of another shape or kind.
    """
    state = network.state_dict()
    check_fit(stored, {name: tuple(tensor.shape) for name, tensor in state.items()})
    for name, entry in sorted(stored.tensors.items(), key=lambda item: (item[1].path, item[1].start)):
        if not state[name].is_meta:
            state[name].copy_(_parted(read_tensor(name, entry), state[name]))


def _parted(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor in the parts that another is in, if it is."""
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
