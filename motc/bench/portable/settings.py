"""What is timed, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from .batches import ModalityMix

Mode = Literal["forward", "backward", "step"]
MODES: tuple[Mode, ...] = ("forward", "backward", "step")
Phase = Literal["inference", "training"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`mixtures` come from `motc.bench.mixtures`; `threads` None leaves torch's number as it is."""

    mixtures: tuple[ModalityMix, ...]
    batch: int = 2
    pairs: int = 15
    dtypes: tuple[str, ...] = tuple(DTYPES)
    modes: tuple[Mode, ...] = MODES
    device: str = "cpu"
    threads: int | None = None
    seed: int = 0

    @property
    def sequence(self) -> int:
        return sum(self.mixtures[0].counts)

    @property
    def tokens(self) -> int:
        return self.batch * self.sequence


def phase_of(mode: Mode) -> Phase:
    """What a network is used for in a mode; those for inference and those for training are compiled apart."""
    return "inference" if mode == "forward" else "training"
