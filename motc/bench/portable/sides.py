"""A network that is compared with others, and what a run of it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .batches import DrawnBatch
from .settings import Mode
from .timing import Timed


class Side:
    """A network with what its training needs."""

    def __init__(self, network: nn.Module, device: str) -> None:
        self.network = network
        self.device = device
        self._optimizer: torch.optim.Optimizer | None = None

    def timed(self, mode: Mode, batch: DrawnBatch) -> Timed:
        """A run without gradients to begin with."""
        return Timed(prepare=self.drop_gradients, run=lambda: self.run(mode, batch))

    def drop_gradients(self) -> None:
        """No gradients, and the device at rest."""
        self.network.zero_grad(set_to_none=True)
        self.wait()

    def run(self, mode: Mode, batch: DrawnBatch) -> None:
        """A run of a mode, its layout made inside. On CUDA it may return before the device is done."""
        with torch.no_grad() if mode == "forward" else contextlib.nullcontext():
            output = self.outputs(batch)
        if mode != "forward":
            mean_squares(output).backward()  # type: ignore[no-untyped-call]
        if mode == "step":
            self.optimizer().step()

    def run_to_end(self, mode: Mode, batch: DrawnBatch) -> None:
        """A run, over when the device is done."""
        self.run(mode, batch)
        self.wait()

    def outputs(self, batch: DrawnBatch) -> dict[str, Tensor]:
        """The logits, of each vocabulary by its modality's name, and what is predicted of latents.

        In CUDA graphs they are there until the next call.
        """
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        output = self.network(batch.input_ids, batch.modality_ids, **batch.given, **self._positions(batch))
        return dict(_tensors(output, list(batch.latents)))

    def _positions(self, batch: DrawnBatch) -> dict[str, Tensor]:
        """Positions 0, 1, 2 ... where the model's follow from grids, which random tokens are in none of."""
        rules: Any = getattr(self.network, "position_rules", ())
        if not any(rule.takes_grid for rule in rules):
            return {}
        return {"position_ids": torch.arange(batch.modality_ids.shape[1], device=batch.modality_ids.device)}

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW, fused. It does all its work, and a learning rate of 0 keeps the weights: every step is alike."""
        if self._optimizer is None:
            self._optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.0, fused=True)
        return self._optimizer

    def wait(self) -> None:
        """Until the device is done."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)


def mean_squares(outputs: Mapping[str, Tensor]) -> Tensor:
    """The mean of the squares of each tensor, added up."""
    return torch.stack([tensor.square().mean() for tensor in outputs.values()]).sum()


def _tensors(output: Any, latents: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    logits = output.logits
    if isinstance(logits, Mapping):
        yield from ((f"logits of {name}", tensor) for name, tensor in logits.items())
    else:
        yield "logits", logits
    yield from ((f"predictions of {name}", output.predictions[name]) for name in latents)
