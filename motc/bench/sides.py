"""The models that are compared, and what a step of one is."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from motc.bench.batches import Batch
from motc.bench.settings import DTYPES, Mode
from motc.bench.timing import Timed
from motc.driver import stages
from motc.ir.model import Model, Strategy
from motc.loading import instantiate
from motc.schema import Checked

SIDES = ("mot", "dense", "reference")
COMPILED = ("mot", "dense")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is timed. `dense`: the dense twin stands for the model too, so that every ratio but 1 is noise."""

    checked: Checked
    dense: bool = False

    def ir(self, side: str = "mot") -> Model:
        """The IR a side is made from."""
        strategy: Strategy = "reference" if side == "reference" else "sorted"
        *_, (_, model) = stages(self.checked, dense=self.dense or side == "dense", strategy=strategy)
        return model

    def build(self, side: str, dtype: str, device: str, *, compiled: bool = True) -> nn.Module:
        """A new network of a side, with classes of its own; compiled, unless it is the reference."""
        network = instantiate(self.ir(side), dtype=DTYPES[dtype], device=device)
        if compiled and side != "reference":
            cast(Any, network).compile()
        return network


class Side:
    """A network with what its training needs."""

    def __init__(self, network: nn.Module, device: str) -> None:
        self.network = network
        self.device = device
        self._optimizer: torch.optim.Optimizer | None = None

    def timed(self, mode: Mode, batch: Batch) -> Timed:
        """A step without gradients to begin with, over when the device is done."""
        return Timed(prepare=self.drop_gradients, run=lambda: self.run(mode, batch))

    def drop_gradients(self) -> None:
        self.network.zero_grad(set_to_none=True)
        self._wait()

    def run(self, mode: Mode, batch: Batch) -> None:
        """A step of a mode, its layout made inside."""
        given = {"latents": batch.latents, "timesteps": batch.timesteps} if batch.latents else {}
        with torch.no_grad() if mode == "forward" else contextlib.nullcontext():
            output = self.network(batch.input_ids, batch.modality_ids, **given)
        if mode != "forward":
            predictions = [output.predictions[name] for name in batch.latents]
            _squares(output.logits, predictions).backward()  # type: ignore[no-untyped-call]
        if mode == "step":
            self.optimizer().step()
        self._wait()

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW, fused. It does all its work, and a learning rate of 0 keeps the weights: every step is alike."""
        if self._optimizer is None:
            self._optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.0, fused=True)
        return self._optimizer

    def _wait(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)


def _squares(output: Tensor | Mapping[str, Tensor], predictions: Sequence[Tensor]) -> Tensor:
    """The mean of the logits' squares, for each vocabulary, and that of each continuous modality's predictions'."""
    logits = list(output.values()) if isinstance(output, Mapping) else [output]
    return torch.stack([entry.square().mean() for entry in (*logits, *predictions)]).sum()
