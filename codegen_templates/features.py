"""Features: vectors that are given, such as an encoder's, as tokens of the stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .latent_checks import check_features, named
from .latents import Patches, in_pieces, patch_piece, patches_of, rank_of, with_stand_in
from .layout import Layout
from .untrained import untrained


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
    added_after: ClassVar[Mapping[str, tuple[int, ...]]] = {}  # layers after which tokens have a further vector added
    untrained_features: ClassVar[tuple[str, ...]] = ()  # modalities of which nothing is read with a gradient
    modalities: ClassVar[tuple[str, ...]]
    features: nn.ModuleDict
    parameters: Callable[..., Any]

    def feature_shape(self, name: str) -> tuple[int, ...]:
        """The shape of what is given for a token: [size], or [1 + layers, size] where further vectors are added."""
        layers, size = self.added_after.get(name, ()), self.feature_sizes[name]
        return (1 + len(layers), size) if layers else (size,)

    def place_features(self, layout: Layout, features: Mapping[str, Tensor] | None) -> dict[str, Patches]:
        """Features [..., size], or [..., 1 + layers, size], as vectors of the stream, by modality.

        Raises TypeError or ValueError where they are not as many as its tokens. Reads back from the device.
        """
        given = named("features", features, self.feature_sizes, "modality of features")
        like: Tensor = next(self.parameters())
        placed = {}
        is_step = isinstance(layout.places, int)
        for name in self.feature_sizes:
            x = given.get(name)
            if x is None and is_step:
                continue
            mine, shape = layout.modality_ids == self.modalities.index(name), self.feature_shape(name)
            if x is None:
                x = torch.zeros(0, *shape, dtype=like.dtype, device=mine.device)
            if not torch.compiler.is_compiling():
                check_features(name, x, shape, mine)
            vectors = self.features[name](x.reshape(-1, *shape).to(like.dtype))
            if name in self.untrained_features:
                vectors = untrained(vectors, self.features[name])
            layers = self.added_after.get(name, ())
            first, *further = vectors.unbind(1) if layers else [vectors]
            patches = patches_of(first, [], rank_of(layout.modality_ids, self.modalities.index(name)), layout)
            added = {layer: with_stand_in(more) for layer, more in zip(layers, further, strict=True)}
            placed[name] = patches._replace(added=added)
        return placed


def add_features(x: Tensor, patches: Mapping[str, Patches], layer: int) -> Tensor:
    """The stream [N, w] (or [R, L, w]), and to the states of features what is added after this layer."""
    for each in patches.values():
        if layer in each.added:
            x = x + patch_piece(x, each._replace(vectors=each.added[layer]))
    return x


def add_in_pieces(
    x: list[Tensor],
    patches: Mapping[str, Patches],
    places: Mapping[str, int],
    layout: Layout,
    layer: int,
    cut: Callable[[Tensor], list[Tensor]] | None = None,
) -> list[Tensor]:
    """The same, the stream being in pieces, of which those at `places` have features; `cut` as for patches."""
    x = [*x]
    for _, at, mine in in_pieces(patches, places, layout, cut):
        if layer in mine.added:
            x[at] = x[at] + patch_piece(x[at], mine._replace(vectors=mine.added[layer]))
    return x


def read_too(x: list[Tensor], read: int, unread: tuple[int, ...]) -> list[Tensor]:
    """Pieces of the stream; in the backward those `unread`, of which nothing is read, get zeros, through the one at
    `read`, so that no parameter is without a gradient.

    Who averages gradients over processes waits for all of them. A step of generating is one piece, without any.
    """
    if len(x) == 1:
        return x
    x = [*x]
    for place in unread:
        x[read] = x[read] + x[place][:0].sum()
    return x
