"""What a parameter group holds for some modalities: one operator of these kinds, with its sizes.

An operator knows its parameters' names and shapes, how many they are, and what one token pays for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal, assert_never

from motc.ir.latent import LatentEnds as LatentEnds
from motc.ir.parameters import Parameterised

NormKind = Literal["rms", "layer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(Parameterised):
    """A matrix product of a token's vector: `in_features` to `out_features`, with or without a bias."""

    in_features: int
    out_features: int
    bias: bool

    def shapes(self) -> dict[str, tuple[int, ...]]:
        bias = {"bias": (self.out_features,)} if self.bias else {}
        return {"weight": (self.out_features, self.in_features), **bias}

    @property
    def flops(self) -> int:
        return 2 * self.in_features * self.out_features


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm(Parameterised):
    """A norm over the last dimension of `shape`; weights (and for `layer` biases) of the whole shape."""

    kind: NormKind
    shape: tuple[int, ...]
    eps: float

    @classmethod
    def of_heads(cls, kind: NormKind, *, heads: int, head_dim: int, eps: float) -> Norm:
        """The norm of each head's vector: all heads share the weights of an RMS norm, and have their own otherwise."""
        match kind:
            case "rms":
                return cls(kind=kind, shape=(head_dim,), eps=eps)
            case "layer":
                return cls(kind=kind, shape=(heads, head_dim), eps=eps)
            case _:
                assert_never(kind)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        match self.kind:
            case "rms":
                return {"weight": self.shape}
            case "layer":
                return {"weight": self.shape, "bias": self.shape}
            case _:
                assert_never(self.kind)

    @property
    def flops(self) -> int:
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding(Parameterised):
    """A table of `vocab` rows of `width`."""

    vocab: int
    width: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.vocab, self.width)}

    @property
    def flops(self) -> int:
        return 0

    @property
    def head_flops(self) -> int:
        """What a token pays where the table is the head too."""
        return 2 * self.width * self.vocab


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts(Parameterised):
    """A linear map for each of `count` experts, their weights stacked; a token passes `active` of them on average."""

    count: int
    active: Fraction
    in_features: int
    out_features: int
    bias: bool

    def shapes(self) -> dict[str, tuple[int, ...]]:
        bias = {"bias": (self.count, self.out_features)} if self.bias else {}
        return {"weight": (self.count, self.out_features, self.in_features), **bias}

    @property
    def flops(self) -> int:
        return ceil(2 * self.in_features * self.out_features * self.active)

    @property
    def active_parameters(self) -> int:
        """Those of as many experts as a token goes to on average, rounded up."""
        return ceil(self.parameters * self.active / self.count)


Operator = Linear | Norm | Embedding | Experts | LatentEnds
