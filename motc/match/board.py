"""Losses as TensorBoard's scalars, while systems are trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from motc.match.race import System


class Board:
    """Writes a run of each system and seed into a folder. Raises ImportError without tensorboard."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        self.make: Any = SummaryWriter
        self.writers: dict[tuple[str, int], Any] = {}

    def __call__(self, seed: int, step: int, systems: Sequence[System], *, evaluated: bool) -> None:
        """Losses of a step by modality, its seconds where they were measured, and held-out losses if it has any."""
        for system in systems:
            key = (system.name, seed)
            if key not in self.writers:  # what a run that was stopped has written from here on goes
                self.writers[key] = self.make(self.folder / f"{system.name}-seed{seed}", purge_step=step)
            writer = self.writers[key]
            told = {"training loss": system.losses[-1].tolist()}
            if evaluated:
                told["held-out loss"] = system.held_out[-1].tolist()
            for name, losses in told.items():
                for modality, loss in zip(system.modalities, losses, strict=True):
                    if not math.isnan(loss):  # of a batch without it
                        writer.add_scalar(f"{name}/{modality}", loss, step)
            if not math.isnan(system.seconds[-1]):
                writer.add_scalar("seconds a step", system.seconds[-1], step)
            if evaluated:
                writer.flush()

    def close(self) -> None:
        """Write what is left."""
        for writer in self.writers.values():
            writer.close()
