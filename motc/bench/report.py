"""What a benchmark found, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from motc.bench.kernels import LayerKernels
from motc.bench.portable.cells import Cell
from motc.bench.portable.compiling import Compilation
from motc.bench.portable.settings import Phase
from motc.processor import processor_name


@dataclass(frozen=True, slots=True, kw_only=True)
class SideCompilation:
    """What compiling a side took; the models for inference and for training are compiled apart."""

    dtype: str
    phase: Phase
    side: str
    compilation: Compilation


@dataclass(frozen=True, slots=True, kw_only=True)
class SideMemory:
    """Bytes: of all parameters, and at the peak of a training step beyond parameters, gradients and optimizer state."""

    dtype: str
    side: str
    parameters: int
    peak: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SideKernels:
    """The kinds of layer of a side."""

    dtype: str
    side: str
    layers: tuple[LayerKernels, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where it ran."""

    device: str
    processor: str
    threads: int
    torch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything; figures are kept raw and summed up on demand.

    `spans` are the tokens of a span of each continuous modality in the data; the shares are those of whole ones.
    """

    model: str
    semantic_hash: str
    batch: int
    sequence: int
    pairs: int
    spans: Mapping[str, int]
    machine: Machine
    cells: tuple[Cell, ...]
    compilations: tuple[SideCompilation, ...]
    memory: tuple[SideMemory, ...]
    kernels: tuple[SideKernels, ...]

    def to_json(self) -> dict[str, Any]:
        """Every figure, with the raw pairs, in types JSON knows."""
        return {
            "model": self.model,
            "semantic_hash": self.semantic_hash,
            "batch": self.batch,
            "sequence": self.sequence,
            "pairs": self.pairs,
            **({"spans": dict(self.spans)} if self.spans else {}),
            "machine": asdict(self.machine),
            "cells": [cell.to_json() for cell in self.cells],
            "compilations": [
                {"dtype": each.dtype, "phase": each.phase, "side": each.side, **asdict(each.compilation)}
                for each in self.compilations
            ],
            "memory": [
                {
                    "dtype": each.dtype,
                    "side": each.side,
                    "parameter_bytes": each.parameters,
                    "extra_parameter_bytes": each.parameters - self.parameters(each.dtype, "dense"),
                    "peak_step_bytes": each.peak,
                }
                for each in self.memory
            ],
            "kernels": [kernels_json(each) for each in self.kernels],
        }

    def parameters(self, dtype: str, side: str) -> int:
        """Bytes of a side's parameters."""
        return next(each.parameters for each in self.memory if (each.dtype, each.side) == (dtype, side))


def kernels_json(kernels: SideKernels) -> dict[str, Any]:
    """The kernels of a side's kinds of layer."""
    counts = [
        {**asdict(layer), "kernels": layer.kernels, "products": layer.products, "generated": layer.generated}
        for layer in kernels.layers
    ]
    return {"dtype": kernels.dtype, "side": kernels.side, "kinds": counts}


def machine(device: str) -> Machine:
    """This machine, as it is set now."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor_name()
    return Machine(device=device, processor=name, threads=torch.get_num_threads(), torch=torch.__version__)
