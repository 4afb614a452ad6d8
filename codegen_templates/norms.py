"""Norms over the last dimension; statistics in float32 or wider, cast back before the result is scaled."""

from collections.abc import Mapping

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

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * self.normalise(x)


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
        return nn.functional.layer_norm(wide, wide.shape[-1:], eps=self.eps).to(x.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * self.normalise(x) + self.bias


class NormByTower(nn.ModuleDict):
    """Copies of one norm. All tokens are normalised at once, in any order; each is scaled by its modality's copy.

    `ends[i]` is the number of modalities that the first i + 1 entries of `route` serve together.
    """

    def __init__(self, copies: Mapping[str, nn.Module], route: tuple[str, ...], ends: tuple[int, ...]) -> None:
        super().__init__(copies)
        self.route = route
        self.ends = ends

    def of(self, parameter: str, places: Tensor) -> Tensor:
        """Each token's weight or bias; `places` is that of its modality in the order modalities are sorted in."""
        chosen: Tensor = getattr(self[self.route[0]], parameter)
        for end, name in zip(self.ends, self.route[1:], strict=False):
            chosen = torch.where(places >= end, getattr(self[name], parameter), chosen)
        return chosen

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        first = self[self.route[0]]
        places = places.view(*places.shape, *(1 for _ in x.shape[places.ndim :]))
        y: Tensor = self.of("weight", places) * first.normalise(x)  # type: ignore[operator]
        return y if getattr(first, "bias", None) is None else y + self.of("bias", places)
