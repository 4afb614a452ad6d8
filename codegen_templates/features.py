"""Features: vectors that are given, such as an encoder's, as tokens of the stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .latent_checks import check_features, named
from .latents import Patches, patches_of, rank_of
from .layout import Layout


class Projector(nn.Module):
    """A feature to the stream's width: a norm of it if there is one, and a linear map, or two about an activation."""

    def __init__(
        self,
        size: int,
        width: int,
        bias: bool = True,
        hidden: int | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.hidden = None if hidden is None else nn.Linear(size, hidden, bias=bias)
        self.activation = activation
        self.out = nn.Linear(size if hidden is None else hidden, width, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        x = features if self.norm is None else self.norm(features)
        if self.hidden is not None and self.activation is not None:
            x = self.activation(self.hidden(x))
        projected: Tensor = self.out(x)
        return projected


class TakesFeatures:
    """A model that is given vectors for the tokens of some modalities: `features` are their projectors."""

    feature_sizes: ClassVar[Mapping[str, int]]  # how many numbers a vector of each has
    modalities: ClassVar[tuple[str, ...]]
    features: nn.ModuleDict
    parameters: Callable[..., Any]

    def place_features(self, layout: Layout, features: Mapping[str, Tensor] | None) -> dict[str, Patches]:
        """Features [..., size] as vectors of the stream, by modality.

        Raises TypeError or ValueError where they are not as many as its tokens. Reads back from the device.
        """
        given = named("features", features, self.feature_sizes, "modality of features")
        like: Tensor = next(self.parameters())
        placed = {}
        is_step = isinstance(layout.places, int)
        for name, size in self.feature_sizes.items():
            x = given.get(name)
            if x is None and is_step:
                continue
            mine = layout.modality_ids == self.modalities.index(name)
            if x is None:
                x = torch.zeros(0, size, dtype=like.dtype, device=mine.device)
            if not torch.compiler.is_compiling():
                check_features(name, x, size, mine)
            vectors = self.features[name](x.reshape(-1, size).to(like.dtype))
            placed[name] = patches_of(vectors, [], rank_of(layout.modality_ids, self.modalities.index(name)), layout)
        return placed


def read_too(x: Tensor, *unread: Tensor) -> Tensor:
    """x; in the backward, pieces of which nothing is read get zeros, so that no parameter is without a gradient.

    Who averages gradients over processes waits for all of them.
    """
    for piece in unread:
        x = x + piece[:0].sum()
    return x
