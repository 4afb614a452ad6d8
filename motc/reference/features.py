"""Given vectors to tokens: the projector of a modality of features."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from motc.reference.operators import FfnKind, Parameters, ReferenceNorm, activated, linear, normalised


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFeatures:
    """A modality whose tokens are given vectors of `size` numbers; `prefix` is that of its projector's parameters.

    `maps` says how many linear maps there are: `out`, or `hidden` and `out` with an activation between. `norm` is that
    of the vectors before them, None where there is none. With `added_after` a token is given a vector more for each of
    these layers, [1 + layers, size]: projected like the first, it is added to the token's state after that layer.
    """

    prefix: str
    size: int
    maps: int
    activation: FfnKind | None
    norm: ReferenceNorm | None
    added_after: tuple[int, ...] = ()


def added_vectors(features: ReferenceFeatures, vectors: Tensor, layer: int) -> Tensor | None:
    """Of vectors [n, 1 + layers, size] those that are added after a layer; None where none are."""
    return vectors[:, 1 + features.added_after.index(layer)] if layer in features.added_after else None


def feature_tokens(features: ReferenceFeatures, parameters: Parameters, vectors: Tensor) -> Tensor:
    """The tokens [n, width] of vectors [n, size]."""
    x = vectors
    if features.norm is not None:
        x = normalised(features.norm, parameters, features.prefix + ".norm", x)
    if features.maps == 2:
        assert features.activation is not None
        hidden = linear(parameters, features.prefix + ".hidden", x)
        x = activated(features.activation, hidden, lambda: hidden)
    return linear(parameters, features.prefix + ".out", x) if features.maps else x
