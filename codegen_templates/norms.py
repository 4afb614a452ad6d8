"""Norms over the last dimension, or the last two; statistics in float32 or wider."""

from abc import abstractmethod
from bisect import bisect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class ScaledNorm(nn.Module):
    """weight · y + bias, y being x normalised; the weight and the bias are of `shape`, and each may be missing.

    y is cast back to x's dtype before it is scaled. With an `offset`, which is added to the weight, the cast is last.
    `over_heads`: statistics are over all heads of x [..., heads, head_dim] together, and `shape` is their whole size.
    """

    def __init__(
        self,
        *shape: int,
        eps: float,
        weight: bool = True,
        bias: bool = False,
        offset: int = 0,
        over_heads: bool = False,
    ) -> None:
        super().__init__()
        self.start = 1.0 - offset
        self.weight = nn.Parameter(torch.full(shape, self.start)) if weight else None
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None
        self.eps, self.offset, self.over_heads = eps, offset, over_heads

    @abstractmethod
    def standardise(self, x: Tensor) -> Tensor:
        """x, in float32 or wider, by its statistics."""

    def normalise(self, x: Tensor) -> Tensor:
        """x without scale and bias."""
        y = self.standardise(x.to(torch.promote_types(x.dtype, torch.float32)))
        return y if self.offset else y.to(x.dtype)

    def scale(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """What is normalised with scale and bias; with an offset as `dtype`, which x has."""
        weight: Tensor | None = self.weight
        bias: Tensor | None = self.bias
        if self.over_heads:
            weight, bias = (x if x is None else x.view(y.shape[-2:]) for x in (weight, bias))
        if weight is not None:
            y = (self.offset + weight.to(y.dtype)) * y if self.offset else weight * y
        if bias is not None:
            y = y + bias
        return y.to(dtype) if self.offset else y

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(self.normalise(x), x.dtype)


class RMSNorm(ScaledNorm):
    """weight · x / sqrt(mean(x²) + eps)."""

    def standardise(self, x: Tensor) -> Tensor:
        dimensions = (-2, -1) if self.over_heads else (-1,)
        return x * torch.rsqrt(x.square().mean(dimensions, keepdim=True) + self.eps)


class LayerNorm(ScaledNorm):
    """weight · (x - mean(x)) / sqrt(var(x) + eps) + bias; of a shape of two dimensions, each head has its own."""

    def __init__(self, *shape: int, eps: float, bias: bool = True, **others: Any) -> None:
        super().__init__(*shape, eps=eps, bias=bias, **others)

    def standardise(self, x: Tensor) -> Tensor:
        rows = x.flatten(-2) if self.over_heads else x
        rows = rows.flatten(0, -2)  # of more dimensions its backward asks which are 1, and cannot be compiled
        return nn.functional.layer_norm(rows, rows.shape[-1:], eps=self.eps).view_as(x)


class NormByTower(nn.ModuleDict):
    """Copies of one norm, by name. All tokens are normalised at once, in any order, then each is scaled by its copy.

    `route` names the copies of the modalities, in their sorted order, once where several in a row share one; not given,
    all copies. `ends[i]` is the number of modalities that the first i + 1 of `route` serve together; not given, each
    serves one.
    """

    def __init__(
        self, copies: Mapping[str, nn.Module], route: tuple[Any, ...] | None = None, ends: tuple[int, ...] | None = None
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
        return self.choose(places, (copy.scale(y, x.dtype) for copy in copies))
