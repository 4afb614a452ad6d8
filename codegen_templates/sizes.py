"""What is done with a layout's tensors: their sizes told to the compiler, and moved to another device."""

import inspect
from typing import Any

import torch
from torch import Tensor

from .autocast import product_dtype

LIKELY = {"batch": 4, "sequence": 1024, "rows": 4, "length": 1024, "stream": 4096, "piece": 512, "condition": 8}
"""What the compiler takes a size for where that helps it choose; any other works. Pieces leave room for the last."""

MOST_ROWS = 65_535
"""That cuDNN's attention takes."""


def check_compiler() -> None:
    """Raise RuntimeError where torch cannot be told which sizes vary and which are equal."""
    from torch._dynamo.decorators import mark_unbacked

    if "shape_id" not in inspect.signature(mark_unbacked).parameters:
        raise RuntimeError(f"compile() needs torch 2.11 or later, and this is {torch.__version__}; uncompiled it works")


def check_attention(slots: Tensor, has_mask: bool) -> None:
    """Raise RuntimeError where torch cannot compile attention for rows of `slots` [R, L], and uncompiled it can.

    Torch before 2.13 asks of a matrix of who sees whom whether its number of rows is 1. On CUDA, choosing a kernel, it
    asks of all rows what cuDNN's kernel cannot take (`check_cudnn_tensor_shapes` in sdp_utils.cpp).
    """
    if has_mask and torch.__version__ < "2.13":
        raise RuntimeError(
            "attention needs a matrix of who sees whom for this batch or this mask, and compiled that needs torch 2.13 "
            f"or later; this is {torch.__version__}. Uncompiled it works, and so do rows of one document each"
        )
    rows, length = slots.shape
    if slots.is_cuda and (length < 2 or rows > MOST_ROWS):
        raise RuntimeError(
            f"compiled on CUDA, attention needs at most {MOST_ROWS:,} rows, of two tokens or more; here are {rows:,} "
            f"of {length}. Uncompiled it works"
        )


def check_grouped_products(parameter: Tensor) -> None:
    """Raise RuntimeError where torch cannot compile grouped products of a parameter's dtype, or that of autocast."""
    dtype = product_dtype(parameter)
    if dtype != torch.bfloat16:
        raise RuntimeError(
            f"torch compiles grouped products in bfloat16 alone, and these are in {dtype}: use bfloat16 parameters or "
            "autocast, another strategy than grouped, or the model uncompiled"
        )


def mark_sizes(x: Tensor, *names: str) -> Tensor:
    """x, its first sizes told to vary: one graph then serves all, 0 and 1 included.

    Equal names mean equal sizes; pieces and conditions have sizes of their own, and the size `one` does not vary.

    A mark is lost by any operation, and by a transfer between processes, so this is done at every call.
    """
    from torch._dynamo.decorators import mark_unbacked

    for dimension, name in enumerate(names):
        if name == "one":
            continue
        shape_id = None if name in ("piece", "condition") else name
        mark_unbacked(x, dimension, shape_id=shape_id, hint_override=LIKELY.get(name, LIKELY["length"]))
    return x


def exporting() -> bool:
    """Whether torch.export traces a model, for batches of any values; torch before 2.7 does not say."""
    said = getattr(torch.compiler, "is_exporting", None)
    return said is not None and bool(said())


def not_empty(x: Tensor, any_length: bool = False) -> Tensor:
    """x [R, L, ...], the compiler told that neither R nor L is 0, which attention asks.

    On CUDA also what `check_attention` has checked, unless L may be 1.
    """
    torch._check(x.shape[0] > 0)  # type: ignore[no-untyped-call]
    torch._check(x.shape[1] > 0)  # type: ignore[no-untyped-call]
    if x.is_cuda and not any_length and torch.compiler.is_compiling():
        torch._check(x.shape[0] <= MOST_ROWS)  # type: ignore[no-untyped-call]
        torch._check(x.shape[1] > 1)  # type: ignore[no-untyped-call]
    return x


def mark_numbers(x: Tensor) -> Tensor:
    """x, one number for each token of the stream [N] or [R, L], its sizes told to vary."""
    return mark_sizes(x, *(("stream",) if x.ndim == 1 else ("rows", "length")))


def moved(value: Any, device: torch.device | str, non_blocking: bool) -> Any:
    """A tensor on another device, or a tuple of them; None stays None."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=non_blocking)
    if isinstance(value, tuple):
        values = [moved(item, device, non_blocking) for item in value]
        return type(value)(*values) if hasattr(value, "_fields") else tuple(values)
    return value
