"""Compiling a model by its layers, with sizes that vary."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .sizes import check_compiler, mark_sizes

# Inductor writes intermediates to memory sooner than pays here; with more reads and operations to a kernel the
# permutations go into the norms and rotary positions that follow them.
FUSE_MORE = {"realize_reads_threshold": 32, "realize_opcount_threshold": 200}

OUTER_METHODS = ("embed", "read", "score")
"""Methods of a model that are compiled beside its layers."""


def compile_parts(model: Any, *args: Any, **kwargs: Any) -> None:
    """Compile a model's layers and its outer methods, each by itself; arguments as for torch.compile.

    Raises RuntimeError where torch is older than 2.11.
    """
    check_compiler()
    kwargs.setdefault("fullgraph", True)
    if kwargs.get("backend", "inductor") == "inductor" and not kwargs.keys() & {"mode", "options"} and not args:
        kwargs["options"] = FUSE_MORE
    model.has_grouped_products = any(getattr(part, "is_grouped_product", False) for part in model.modules())
    stream, rows = model.stream_sizes, ("rows", "length")
    given = {"x": stream, "mask": ("rows", "one", "length", "length"), "cos": rows, "sin": rows}
    for layer in model.layers:
        layer.compile(*args, **kwargs)
        names = inspect.signature(layer.forward).parameters
        sizes = tuple(given.get(name, ()) for name in names)
        layer._compiled_call_impl = with_sizes(layer._compiled_call_impl, sizes)
    flat = ("stream",) if stream[0] in ("stream", "piece") else rows
    outer = {"embed": (flat, ()), "read": (stream, ()), "score": (stream, (), None)}
    for name in OUTER_METHODS:
        model.__dict__.pop(name, None)  # compiled before
        model.__dict__[name] = with_sizes(torch.compile(getattr(model, name), *args, **kwargs), outer[name])


def with_sizes(function: Callable[..., Any], sizes: Sequence[tuple[str, ...] | None]) -> Callable[..., Any]:
    """The function, the sizes of its first arguments marked at every call, by these names; None: as they do themselves.

    Layouts have none here: they are marked once a batch. With a cache nothing is compiled.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling() and kwargs.get("cache") is None:
            for value, names in zip(args, sizes, strict=False):
                if names is None:
                    value.mark_sizes()
                elif names:
                    for x in value if isinstance(value, list | tuple) else [value]:
                        if x is not None and not hasattr(x, "_dynamo_unbacked_indices"):
                            mark_sizes(x, *names)
        return function(*args, **kwargs)

    return call
