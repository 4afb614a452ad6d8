"""The tensors of a planned model, made and written one at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, assert_never

import torch
from torch import Tensor

from motc.upcycling.plan import InitPlan, Start
from motc.upcycling.sources import Source
from motc.weights.fit import FLOATS
from motc.weights.read import DTYPES
from motc.weights.write import write_weights

PIECE = 1 << 18
"""How many numbers are widened at once."""


def write_planned(
    path: Path, plan: InitPlan, sources: Mapping[str, Source], network: Any, metadata: Mapping[str, str], seed: int
) -> None:
    """A file of weights as planned; `network` is the model on the meta device, from which what is fresh is drawn.

    What is taken keeps its dtype, and what is not has the widest that sources have, `network` too from here on.
    Raises SpecError and OSError.
    """
    wide = min((source.dtype(name) for source in sources.values() for name in source.groups.shapes), key=FLOATS.index)
    network.to(DTYPES[wide])
    dtypes = {start.parameter: _dtype(start, sources, wide) for start in plan.starts}
    planned = {start.parameter: (dtypes[start.parameter], start.shape) for start in plan.starts}

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for start in plan.starts:  # no name here holds one while the next is made
            yield start.parameter, begin(start, sources, network, seed).to(DTYPES[dtypes[start.parameter]])

    write_weights(path, planned, tensors(), metadata)


@torch.no_grad()
def begin(start: Start, sources: Mapping[str, Source], network: Any, seed: int) -> Tensor:
    """What a parameter begins as. What is drawn follows from the seed and the parameter's name alone."""
    match start.statement.verb:
        case "copy":
            return sources[start.source].read(start.tensor)
        case "slice":
            return sources[start.source].read(start.tensor)[tuple(map(slice, start.shape))].clone()
        case "noise":
            return _noised(sources[start.source].read(start.tensor), start, seed)
        case "repeat":
            experts = sources[start.source].read(start.tensor).repeat(start.shape[0], *(1 for _ in start.shape[1:]))
            return _noised(experts, start, seed) if start.statement.deviation else experts
        case "zero":
            return torch.zeros(start.shape)
        case "fresh":
            return _fresh(start.parameter, network, seed)
        case "unused":
            raise AssertionError("no parameter is unused")
        case _:
            assert_never(start.statement.verb)


def _dtype(start: Start, sources: Mapping[str, Source], wide: str) -> str:
    if start.source:
        return sources[start.source].dtype(start.tensor)
    return "F32" if start.parameter.endswith(".correction") else wide


def _noised(tensor: Tensor, start: Start, seed: int) -> Tensor:
    """A tensor with noise added in place; piece by piece, since it is drawn and added in wider numbers."""
    digest = hashlib.sha256(f"{seed}:noise:{start.parameter}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    tensor = tensor.contiguous()
    pieces = torch.split(tensor.view(-1), PIECE)
    mean = sum(piece.double().sum() for piece in pieces) / tensor.numel()
    variance = sum((piece.double() - mean).square().sum() for piece in pieces) / tensor.numel()
    for piece in pieces:
        noise = torch.randn(piece.shape, dtype=torch.promote_types(piece.dtype, torch.float32), generator=generator)
        piece.copy_(piece + start.statement.deviation * variance**0.5 * noise)
    return tensor


def _fresh(parameter: str, network: Any, seed: int) -> Tensor:
    """A parameter as `motc.load` draws it with this seed, its module alone being in memory."""
    path, _, name = parameter.rpartition(".")
    module = network.get_submodule(path)
    if name in dict(module.named_buffers(recurse=False)):
        return torch.zeros_like(getattr(module, name), device="cpu")
    _allocate(module, "cpu")
    network.named_modules = lambda: [(path, module)]  # all that `init_weights` goes through
    try:
        network.init_weights(seed)
        fresh: Tensor = getattr(module, name).detach()
    finally:
        del network.named_modules
        _allocate(module, "meta")
    return fresh


def _allocate(module: Any, device: str) -> None:
    """A module's own parameters and buffers, of any numbers; as `motc.load` allocates them."""
    module._apply(lambda x: torch.empty(x.shape, dtype=x.dtype, device=device), recurse=False)
