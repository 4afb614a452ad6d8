"""What a parameter group holds for some modalities: one operator of these kinds, with its sizes.

An operator knows its parameters' names and shapes, how many they are, and what one token pays for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal, assert_never

from motc.ir.condition import Activation as Activation
from motc.ir.condition import Condition as Condition
from motc.ir.condition import Modulation as Modulation
from motc.ir.latent import LatentEnds as LatentEnds
from motc.ir.parameters import Parameterised
from motc.ir.routing import Choice

NormKind = Literal["rms", "layer"]
ProjectorKind = Literal["none", "linear", Activation]


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
class Router(Linear):
    """A linear map to logits of experts, by which each token chooses `top_k` of them otherwise than plainly."""

    top_k: int
    choice: Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadMap(Linear):
    """A linear map of keys, or of values, of tokens that are read: those whose map it is have no products of it."""

    @property
    def flops(self) -> int:
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm(Parameterised):
    """A norm over the last dimension of `shape`; weights (and for `layer` biases) of the whole shape.

    Weights are added to `offset`. There are none without `weight`, and no biases without `bias`. `over_heads`: a norm
    over all heads of a token together, of which the shape is the whole size.
    """

    kind: NormKind
    shape: tuple[int, ...]
    eps: float
    offset: int = 0
    weight: bool = True
    bias: bool = True
    over_heads: bool = False

    def shapes(self) -> dict[str, tuple[int, ...]]:
        weight = {"weight": self.shape} if self.weight else {}
        match self.kind:
            case "rms":
                return weight
            case "layer":
                return {**weight, "bias": self.shape} if self.bias else weight
            case _:
                assert_never(self.kind)

    @property
    def words(self) -> str:
        """`rms`, `layer without bias`, `rms, weights added to 1`: all but the shape and eps."""
        kind = f"{self.kind} over all heads" if self.over_heads else self.kind
        missing = [name for name, there in (("weight", self.weight), ("bias", self.bias)) if not there]
        without = f" without {' and '.join(missing)}" if missing else ""
        return f"{kind}{without}{f', weights added to {self.offset}' if self.offset else ''}"

    @property
    def is_parameterless(self) -> bool:
        """Whether copies of it are all the same."""
        return not self.shapes()

    @property
    def flops(self) -> int:
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadNorm:
    """What a norm of queries and keys is, whatever the sizes of heads: as a `Norm`.

    `by_head`: each head has weights of its own, rather than all share them; of a norm over all heads it says nothing.
    """

    kind: NormKind
    offset: int = 0
    weight: bool = True
    bias: bool = True
    over_heads: bool = False
    by_head: bool = False

    @classmethod
    def read(cls, norm: Norm) -> HeadNorm:
        """What such a norm is."""
        return cls(
            kind=norm.kind,
            offset=norm.offset,
            weight=norm.weight,
            bias=norm.bias,
            over_heads=norm.over_heads,
            by_head=len(norm.shape) == 2,
        )

    def of(self, *, heads: int, head_dim: int, eps: float) -> Norm:
        """The norm of heads of this number and size."""
        shape = (heads, head_dim) if self.by_head else (head_dim,)
        return Norm(
            kind=self.kind,
            shape=(heads * head_dim,) if self.over_heads else shape,
            eps=eps,
            offset=self.offset,
            weight=self.weight,
            bias=self.bias,
            over_heads=self.over_heads,
        )

    def __str__(self) -> str:
        """`rms`, `layer, shared by heads`, `rms over all heads`."""
        words = self.of(heads=1, head_dim=1, eps=1.0).words
        if self.over_heads or self.by_head == (self.kind == "layer"):
            return words
        return f"{words}, {'by head' if self.by_head else 'shared by heads'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding(Parameterised):
    """A table of `vocab` rows of `width`, multiplied with `scale` where they become the stream."""

    vocab: int
    width: int
    scale: float = 1.0

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Projector(Parameterised):
    """What brings a feature of `size` numbers to the stream's width: nothing, or a norm of it and one or two maps.

    `kind` is `none`, `linear`, or the activation between two maps, the first of which gives `hidden` numbers. A token
    has a vector more for each layer of `added_after`, which goes the same way and is added to its state after that.
    """

    kind: ProjectorKind
    size: int
    width: int
    hidden: int | None
    bias: bool
    norm: Norm | None
    added_after: tuple[int, ...] = ()

    def parts(self) -> dict[str, Linear | Norm]:
        """What a feature goes through, by name, in that order."""
        if self.kind == "none":
            return {}
        parts: dict[str, Linear | Norm] = {} if self.norm is None else {"norm": self.norm}
        inner = self.size
        if self.hidden is not None:
            parts["hidden"] = Linear(in_features=inner, out_features=self.hidden, bias=self.bias)
            inner = self.hidden
        return {**parts, "out": Linear(in_features=inner, out_features=self.width, bias=self.bias)}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            f"{name}.{parameter}": shape
            for name, part in self.parts().items()
            for parameter, shape in part.shapes().items()
        }

    @property
    def flops(self) -> int:
        return sum(part.flops for part in self.parts().values()) * (1 + len(self.added_after))

    @property
    def given(self) -> tuple[int, ...]:
        """The shape of what is given for a token: one vector, or `[1 + layers, size]` where more are added."""
        return (1 + len(self.added_after), self.size) if self.added_after else (self.size,)

    def __str__(self) -> str:
        """`1152 -> width` in words: `1152, norm rms, gelu_tanh of 3584`, `32, linear without biases`."""
        norm = f", norm {self.norm.words}" if self.norm else ""
        added = f", more added after layers {' '.join(map(str, self.added_after))}" if self.added_after else ""
        match self.kind:
            case "none":
                return f"{self.size}{added}"
            case "linear":
                maps = ", linear"
            case _:
                maps = f", {self.kind} of {self.hidden}"
        return f"{self.size}{norm}{maps}{'' if self.bias else ' without biases'}{added}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sinks(Parameterised):
    """A logit of each head, which takes part in softmax and brings no value."""

    heads: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.heads,)}

    @property
    def flops(self) -> int:
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TanhGate(Parameterised):
    """A number, the tanh of which is multiplied with what a sublayer makes."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (1,)}

    @property
    def flops(self) -> int:
        return 0


Operator = Linear | Norm | Embedding | Experts | LatentEnds | Projector | Sinks | Condition | Modulation | TanhGate
