"""What `motc.load` is given, checked before torch meets it: a device, a dtype, a seed."""

from __future__ import annotations

import operator
import reprlib
from typing import Any

import torch

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def read_device(device: Any) -> torch.device:
    """A device that torch has here; `meta` is one. Raises ValueError, and TypeError for what names none."""
    if isinstance(device, bool) or not isinstance(device, str | int | torch.device):
        raise TypeError(f"device is {reprlib.repr(device)}; it may be a name, such as cpu or cuda:1, or a torch.device")
    try:
        usable = torch.device(device)
        torch.empty(0, device=usable)
    except (RuntimeError, AssertionError, ImportError) as error:  # torch says it in many ways
        reason = str(error).strip().partition("\n")[0].partition(". ")[0][:250]
        raise ValueError(f"device {reprlib.repr(str(device))} cannot be used here: {reason}") from None
    return usable


def read_dtype(dtype: Any) -> torch.dtype:
    """A dtype, or its name, of those a model may have. Raises ValueError, and TypeError for what names none."""
    if not isinstance(dtype, str | torch.dtype):
        raise TypeError(f"dtype is {reprlib.repr(dtype)}; it may be a torch.dtype or its name")
    by_name = {str(known).removeprefix("torch."): known for known in DTYPES}
    known_dtype = by_name.get(str(dtype).removeprefix("torch."))
    if known_dtype is None:
        raise ValueError(f"dtype is {reprlib.repr(str(dtype))}; it may be {', '.join(by_name)}")
    return known_dtype


def read_seed(seed: Any) -> int:
    """A whole number. Raises TypeError."""
    try:
        return operator.index(seed)
    except TypeError:
        raise TypeError(f"seed is {reprlib.repr(seed)}; it may be any whole number") from None
