"""What a comparison is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

BETAS = (0.9, 0.95)  # of AdamW


class MatchError(ValueError):
    """Data, settings or a run that do not work out; the sentence is for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How each system is trained. The first seed is 0."""

    steps: int
    seeds: int
    batch: int  # samples a step
    eval_every: int  # steps
    learning_rate: float
    device: str
    threads: int
    warm_up: float = 0.05  # of the steps
    final_rate: float = 0.1  # of the learning rate, where a cosine ends
    weight_decay: float = 0.1
    clip: float = 1.0  # of the norm of all gradients

    def recorded(self) -> dict[str, Any]:
        """What a resumed run must share: all but the number of seeds, which only adds runs."""
        return {key: value for key, value in asdict(self).items() if key != "seeds"}
