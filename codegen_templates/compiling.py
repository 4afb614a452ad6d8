"""Compiling a model by its layers, with sizes that vary."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .sizes import check_compiler, mark_sizes

INDUCTOR = {
    # Inductor writes intermediates to memory sooner than pays here; with more reads and operations to a kernel the
    # permutations go into the norms and rotary positions that follow them.
    "realize_reads_threshold": 32,
    "realize_opcount_threshold": 200,
    # On CUDA, reductions over rows and over columns in one kernel: torch 2.11 asks for sizes that it was not told.
    "triton.mix_order_reduction": False,
}
"""What Inductor is told, unless `options` or `mode` say otherwise."""

OUTER_METHODS = ("embed", "leave", "read", "score")
"""Methods of a model that are compiled beside its layers; not every one has a `leave`."""


def compile_parts(model: Any, *args: Any, **kwargs: Any) -> None:
    """Compile a model's layers and its outer methods, each by itself; arguments as for torch.compile.

    Sizes are told to vary, unless `dynamic` is False or CUDA graphs are asked for, each of which is of one size: then
    another size is compiled or recorded anew.
    Raises RuntimeError where torch is older than 2.11.
    """
    check_compiler()
    kwargs.setdefault("fullgraph", True)
    model.sizes_vary = kwargs.get("dynamic") is not False
    if kwargs.get("backend", "inductor") == "inductor":
        mode = torch._inductor.list_mode_options(kwargs.pop("mode", None) or "default")
        kwargs["options"] = {**INDUCTOR, **mode, **(kwargs.get("options") or {})}
        model.sizes_vary &= not kwargs["options"].get("triton.cudagraphs")
    model.has_grouped_products = any(getattr(part, "is_grouped_product", False) for part in model.modules())
    stream, rows = model.stream_sizes, ("rows", "length")
    flat = ("stream",) if stream[0] in ("stream", "piece") else rows
    given = {"x": stream, "mask": None, "cos": rows, "sin": rows, "spans": flat, "conditions": ("condition",)}

    def compiled(function: Callable[..., Any], sizes: Sequence[tuple[str, ...] | None]) -> Callable[..., Any]:
        made: Callable[..., Any] = torch.compile(function, *args, **kwargs)
        return with_sizes(made, sizes) if model.sizes_vary else made

    for layer in model.layers:
        forward = layer.forward
        is_checkpointed = hasattr(forward, "within")
        within = forward.within if is_checkpointed else forward
        sizes = [given.get(name, ()) for name in inspect.signature(within).parameters]
        if not is_checkpointed and not layer._forward_pre_hooks:
            layer._compiled_call_impl = compiled(layer._call_impl, sizes)
            continue
        if is_checkpointed:  # what runs it again is not compiled, nor are hooks, such as FSDP's
            forward.within = compiled(within, sizes)
        else:
            layer.forward = compiled(within, sizes)
        layer._compiled_call_impl = layer._call_impl
    outer = {"embed": (flat, ()), "read": (stream, ()), "score": (stream, (), None)}
    outer["leave"] = (stream, (), flat, ("condition",))
    if any(part._forward_pre_hooks for part in model.children()):  # ends that FSDP collects: their methods have breaks
        return
    for name in (each for each in OUTER_METHODS if hasattr(model, each)):
        model.__dict__.pop(name, None)  # compiled before
        model.__dict__[name] = compiled(getattr(model, name), outer[name])


def with_sizes(function: Callable[..., Any], sizes: Sequence[tuple[str, ...] | None]) -> Callable[..., Any]:
    """The function, the sizes of its first arguments marked at every call, by these names; None: as they do themselves.

    Layouts have none here: they are marked once a batch. With a cache nothing is compiled.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling() and kwargs.get("cache") is None:
            for value, names in zip(args, sizes, strict=False):
                if names is None and value is not None:
                    value.mark_sizes()
                elif names:
                    for x in _tensors(value):
                        if x is not None and not hasattr(x, "_dynamo_unbacked_indices"):
                            mark_sizes(x, *names)
        return function(*args, **kwargs)

    return call


def _tensors(value: Any) -> Sequence[Any]:
    """The tensors of an argument, which is one of them, or has several."""
    if isinstance(value, dict):
        return [*value.values()]
    return value if isinstance(value, list | tuple) else [value]
