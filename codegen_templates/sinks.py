"""Attention sinks: a logit of each head, which takes part in softmax and brings no value."""

from bisect import bisect

import torch
from torch import Tensor, nn

from .norms import NormByTower


class Sinks(nn.Module):
    """What of queries [..., heads, head_dim] goes to no key: their heads' logits, [..., heads]."""

    start = 0.0  # as of a key that has nothing to do with the query

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(heads))

    def forward(self, q: Tensor) -> Tensor:
        return self.weight.expand(q.shape[:-1])


class SinksByTower(NormByTower):
    """Copies of sinks, by name. Each token has its copy's, in any order of tokens."""

    def forward(self, q: Tensor, places: Tensor | int) -> Tensor:
        if isinstance(places, int):
            sinks: Tensor = self[self.route[bisect(self.ends, places)]](q)
            return sinks
        return self.choose(places[..., None], (self[name](q) for name in self.route))
