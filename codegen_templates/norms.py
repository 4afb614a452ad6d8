"""Norms over the last dimension; statistics in float32 or wider, cast back before the result is scaled."""

from bisect import bisect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """weight · x / sqrt(mean(x²) + eps)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def normalise(self, x: Tensor) -> Tensor:
        """x without the scale."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)

    def scale(self, y: Tensor) -> Tensor:
        return self.weight * y

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(self.normalise(x))


class LayerNorm(nn.Module):
    """weight · (x - mean(x)) / sqrt(var(x) + eps) + bias, both of `shape`; of two dimensions, each head has its own."""

    def __init__(self, *shape: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape))
        self.eps = eps

    def normalise(self, x: Tensor) -> Tensor:
        """x without scale and bias."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        rows = wide.flatten(0, -2)  # of more dimensions its backward asks which are 1, and cannot be compiled
        return nn.functional.layer_norm(rows, rows.shape[-1:], eps=self.eps).view_as(wide).to(x.dtype)

    def scale(self, y: Tensor) -> Tensor:
        return self.weight * y + self.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(self.normalise(x))


class NormByTower(nn.ModuleDict):
    """Copies of one norm, by name. All tokens are normalised at once, in any order, then each is scaled by its copy.

    `route` names the copies of the modalities, in their sorted order, once where several in a row share one; not given,
    all copies. `ends[i]` is the number of modalities that the first i + 1 of `route` serve together; not given, each
    serves one.
    """

    def __init__(
        self, copies: Mapping[str, nn.Module], route: tuple[str, ...] | None = None, ends: tuple[int, ...] | None = None
    ) -> None:
        super().__init__(copies)
        self.route = tuple(copies) if route is None else route
        self.ends = tuple(range(1, len(self.route))) if ends is None else ends

    def choose(self, places: Tensor, copies: Iterable[Tensor]) -> Tensor:
        """Each token's result, from `copies`: the results of each copy in `route`, for all tokens.

        `places`, int64, has each token's modality as its place in the sorted order.
        """
        chosen, *others = copies
        for end, other in zip(self.ends, others, strict=False):
            chosen = torch.where(places >= end, other, chosen)
        return chosen

    def forward(self, x: Tensor, places: Tensor | int) -> Tensor:
        if isinstance(places, int):
            normed: Tensor = self[self.route[bisect(self.ends, places)]](x)
            return normed
        places = places.view(*places.shape, *(1 for _ in x.shape[places.ndim :]))
        copies: list[Any] = [self[name] for name in self.route]
        y = copies[0].normalise(x)
        return self.choose(places, (copy.scale(y) for copy in copies))
