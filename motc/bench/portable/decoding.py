"""Decode steps of a network and of its dense twin, timed in turns."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .timing import Spread, Stopwatch, spread, stopwatch


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingSpeed:
    """Tokens of the whole batch a second by decode steps alone, in each round, and the most the ratio can be.

    `mixed`: the rows are at the modalities in turn, else all at the first. `limit`: the bytes of weights that the twin
    reads for a step over those that the network reads.
    """

    batch: int
    mixed: bool
    tokens_per_second: Mapping[str, tuple[float, ...]]
    limit: float

    def ratio(self) -> Spread:
        """How many times dense's tokens a second."""
        return spread([a / b for a, b in zip(*self.tokens_per_second.values(), strict=True)])

    def median(self, side: str) -> float:
        return spread(self.tokens_per_second[side]).median

    def to_json(self) -> dict[str, Any]:
        medians = {side: self.median(side) for side in self.tokens_per_second}
        return {**asdict(self), "median_tokens_per_second": medians, "ratio": asdict(self.ratio())}


def decode(
    ours: nn.Module, dense: nn.Module, device: str, *, batch: int, mixed: bool, prompt: int, steps: int, rounds: int
) -> DecodingSpeed:
    """The two swap places from round to round; a first round warms up."""
    networks: dict[str, Any] = {"mot": ours, "dense": dense}
    modality_ids = torch.zeros(batch, prompt, dtype=torch.int64, device=device)
    if mixed:
        modality_ids += torch.arange(batch, device=device)[:, None] % len(networks["mot"].modalities)
    speeds: dict[str, list[float]] = {name: [] for name in networks}
    for turn in range(rounds + 1):
        for name in networks if turn % 2 else reversed(list(networks)):
            speeds[name].append(tokens_a_second(networks[name], modality_ids, steps, stopwatch(device)))
    return DecodingSpeed(
        batch=batch,
        mixed=mixed,
        tokens_per_second={name: tuple(each[1:]) for name, each in speeds.items()},
        limit=weights_read(dense, modality_ids) / weights_read(ours, modality_ids),
    )


def tokens_a_second(network: Any, modality_ids: Tensor, steps: int, seconds_of: Stopwatch) -> float:
    """Tokens of the whole batch a second; the time of a run with one token, which is the prompt's, is taken off."""
    ids = torch.ones_like(modality_ids)

    def seconds(count: int) -> float:
        return seconds_of(lambda: network.generate(ids, modality_ids, max_new_tokens=count, temperature=0))

    return len(ids) * (steps - 1) / (seconds(steps) - seconds(1))


def weights_read(network: Any, modality_ids: Tensor) -> int:
    """Bytes of the parameters that a step of a batch reads; of a table only a row is read a token."""
    places = network.layout(modality_ids[:, -1:]).places.unique().tolist()
    by_tower = [module for module in network.modules() if hasattr(module, "ends")]
    read = {module.route[bisect(module.ends, place)] for module in by_tower for place in places}
    others = {name for module in by_tower for name in module.route} - read
    return sum(
        parameter.numel() * parameter.element_size()
        for name, parameter in network.named_parameters()
        if not name.startswith("embedding.") and not others & set(name.split("."))
    )
