"""What a parameter group holds for some modalities: one operator of these kinds, with its sizes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

NormKind = Literal["rms", "layer"]
EndsKind = Literal["linear", "unet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A matrix product of a token's vector: `in_features` to `out_features`, with or without a bias."""

    in_features: int
    out_features: int
    bias: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """A norm over the last dimension of `shape`; weights (and for `layer` biases) of the whole shape."""

    kind: NormKind
    shape: tuple[int, ...]
    eps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """A table of `vocab` rows of `width`."""

    vocab: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A linear map for each of `count` experts, their weights stacked; a token passes `active` of them on average."""

    count: int
    active: Fraction
    in_features: int
    out_features: int
    bias: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unet:
    """A U-Net's channels at the first level, and its residual blocks a level on each side."""

    channels: int
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentEnds:
    """What makes tokens of `width` from patches of a noised latent and a timestep, and a prediction from states.

    Linear maps, unless there is a U-Net.
    """

    channels: int
    patch: int
    width: int
    unet: Unet | None

    @property
    def kind(self) -> EndsKind:
        return "linear" if self.unet is None else "unet"


Operator = Linear | Norm | Embedding | Experts | LatentEnds
