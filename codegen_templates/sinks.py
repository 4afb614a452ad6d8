"""Attention sinks: a logit of each head, which takes part in softmax and brings no value."""

from bisect import bisect

import torch
from torch import Tensor, nn

from .norms import NormByTower

NO_SINK = -1000.0
"""The logit of a sink that takes nothing: a number, for kernels multiply by it."""


class Sinks(nn.Module):
    """What of queries [..., heads, head_dim] goes to no key: their heads' logits, [..., heads]."""

    start = 0.0  # as of a key that has nothing to do with the query

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(heads))

    def forward(self, q: Tensor) -> Tensor:
        return self.weight.expand(q.shape[:-1])


class SinksByTower(NormByTower):
    """Copies of sinks, by name. Each token has its copy's, in any order of tokens; or none, where `route` has None."""

    def forward(self, q: Tensor, places: Tensor | int) -> Tensor:
        if isinstance(places, int):
            return self._of(self.route[bisect(self.ends, places)], q)
        return self.choose(places[..., None], (self._of(name, q) for name in self.route))

    def _of(self, name: str | None, q: Tensor) -> Tensor:
        sinks: Tensor = q.new_full(q.shape[:-1], NO_SINK) if name is None else self[name](q)
        return sinks
