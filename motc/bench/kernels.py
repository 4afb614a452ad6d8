"""What torch.compile makes of a layer: the kernels it generates and the library calls it leaves."""

from __future__ import annotations

import contextlib
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import torch
from torch import nn
from torch._inductor import metrics
from torch._inductor.graph import GraphLowering

from motc.bench.portable.batches import DrawnBatch
from motc.bench.portable.parts import PRODUCTS
from motc.bench.portable.sides import Side

DEFINED = re.compile(r"^(\w+) = async_compile\.", re.M)
CALLED = re.compile(r"^ +(\w+)(?:\.run)?\(", re.M)
LIBRARY = re.compile(r"\b(?:extern_kernels|torch\.ops\.\w+)\.(\w+)(?:\.\w+)?\(")


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphKernels:
    """One graph of a layer.

    `generated` is Inductor's own count, on a CPU of loop nests, of which a kernel may have several.
    """

    kernels: tuple[str, ...]
    library_calls: tuple[str, ...]
    generated: int

    @property
    def products(self) -> int:
        """Calls that are matrix products."""
        return sum(name in PRODUCTS for name in self.library_calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerKernels:
    """A kind of layer, how many the model has, and its graphs for training: of the forward and of the backward."""

    kind: str
    layers: int
    forward: tuple[GraphKernels, ...]
    backward: tuple[GraphKernels, ...]

    @property
    def kernels(self) -> int:
        """Calls of generated kernels in a training step."""
        return sum(len(graph.kernels) for graph in (*self.forward, *self.backward))

    @property
    def generated(self) -> int:
        return sum(graph.generated for graph in (*self.forward, *self.backward))

    @property
    def products(self) -> int:
        return sum(graph.products for graph in (*self.forward, *self.backward))


def layer_kernels(build: Callable[[], nn.Module], batch: DrawnBatch, device: str) -> tuple[LayerKernels, ...]:
    """Each kind of layer, compiled by itself in a new model. `build` makes one that is not compiled."""
    kinds = Counter(type(layer).__name__ for layer in _layers(build()))
    return tuple(_inspect(build(), kind, count, batch, device) for kind, count in kinds.items())


class _Lowered(Exception):
    """Stops a run when both graphs of a layer are known, before they run."""


def _inspect(network: nn.Module, kind: str, count: int, batch: DrawnBatch, device: str) -> LayerKernels:
    """The code of one kind's graphs. It is written and read: its kernels are not compiled, nor run."""
    codes: dict[str, tuple[bool, int]] = {}

    def lower(graph: GraphLowering) -> SimpleNamespace:
        code, _ = graph.codegen()
        codes.setdefault(cast(Any, code).value, (graph.is_backward, metrics.generated_kernel_count))
        return SimpleNamespace(call=stop)

    def stop(_: object) -> None:
        raise _Lowered

    before = metrics.generated_kernel_count
    _compile_kind(network, kind)
    with (
        mock.patch.object(GraphLowering, "compile_to_module", lower),
        torch._inductor.config.patch(fx_graph_cache=False),
        torch._functorch.config.patch(enable_autograd_cache=False, force_non_lazy_backward_lowering=True),
        contextlib.suppress(_Lowered),
    ):
        Side(network, device).run("backward", batch)
    graphs: dict[bool, list[GraphKernels]] = {False: [], True: []}
    for code, (backward, generated) in codes.items():
        graphs[backward].append(read_code(code, generated - before))
        before = generated
    return LayerKernels(kind=kind, layers=count, forward=tuple(graphs[False]), backward=tuple(graphs[True]))


def _compile_kind(network: nn.Module, kind: str) -> None:
    """Compile as the model does, and keep of it only the layers of a kind."""
    cast(Any, network).compile()
    blocks = cast(Any, sys.modules[type(network).__module__])  # of a model in a single file
    for end in blocks.OUTER_METHODS:
        vars(network).pop(end, None)  # not every model has each
    for layer in _layers(network):
        if type(layer).__name__ != kind:
            layer._compiled_call_impl = None


def read_code(code: str, generated: int) -> GraphKernels:
    """The calls in the Python that Inductor writes for a graph, in their order."""
    defined = set(DEFINED.findall(code))
    _, _, body = code.partition("def call(")
    body = body.partition("\ndef ")[0]
    return GraphKernels(
        kernels=tuple(name for name in CALLED.findall(body) if name in defined),
        library_calls=tuple(LIBRARY.findall(body)),
        generated=generated,
    )


def _layers(network: nn.Module) -> list[nn.Module]:
    return list(cast(Any, network).layers)
