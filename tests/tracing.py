"""Compiling without kernels, for tests of what torch traces, guards and counts: seconds instead of a minute."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager
from torch._dynamo.utils import counters
from torch._inductor.compile_fx import compile_fx
from torch.fx import GraphModule

from codegen_templates.compiling import INDUCTOR, OUTER_METHODS


def make_no_kernels(patch: pytest.MonkeyPatch) -> None:
    """Graphs that torch.compile makes meanwhile are run as they are, unless a backend is given."""
    patch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


def layers_alone(backend: Callable[..., Any]) -> Callable[..., Any]:
    """A backend for layers; what embeds, reads logits and scores losses runs as it is traced."""

    def compiled(graph: GraphModule, inputs: list[Any]) -> Any:
        attends = any("attention" in str(node.target) for node in graph.graph.nodes)
        return backend(graph, inputs) if attends else graph.forward

    return compiled


TRACED_LAYERS = layers_alone(aot_eager)
"""Layers, forward and backward, as they are traced for kernels."""

KERNELS_OF_LAYERS = layers_alone(partial(compile_fx, config_patches=INDUCTOR))
"""Layers with the kernels that a model has by itself."""


def leave_ends(model: Any) -> None:
    """What embeds, reads logits and scores losses in a compiled model runs as it is."""
    for name in OUTER_METHODS:
        vars(model).pop(name, None)  # not every model has each


def one_graph_serves(model: Any, *mixtures: list[list[int]]) -> None:
    """No batch of these modalities makes another graph of a model's layers, forward and backward, than the first does.

    Ends, of which all such models have the same, are counted in tests/test_compile.py.
    """
    torch._dynamo.reset()
    model.compile(backend="eager", fullgraph=True)
    leave_ends(model)
    counters.clear()
    graphs = []
    for mixture in mixtures:
        modality_ids = torch.tensor(mixture)
        model.loss(torch.ones_like(modality_ids), modality_ids).total.backward()
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] > 0
    assert graphs == graphs[:1] * len(mixtures)
