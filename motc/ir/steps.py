"""How a model is executed: its operations one after the other, and in which order of tokens each works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from motc.ir.attention import Attention
from motc.ir.feed_forward import FfnKind, Mixture
from motc.ir.leaf import Leaf
from motc.ir.rope import Rope

Order = Literal["slots", "sorted"]


@dataclass(frozen=True, slots=True)
class Value:
    """What a step reads or writes, and how its tokens stand: in attention's slots, or sorted by modality.

    Until permutations are placed, every value is said to be in slots.
    """

    name: str
    order: Order = "slots"

    def ordered(self, order: Order) -> Value:
        """The same value, its tokens in this order."""
        return self if order == self.order else replace(self, order=order)

    def __str__(self) -> str:
        return self.name if self.order == "slots" else f"{self.name} {self.order}"


@dataclass(frozen=True, slots=True)
class Apply:
    """Send each token through its modality's copy of a parameter group."""

    leaf: Leaf


@dataclass(frozen=True, slots=True)
class Rotate:
    """Rotate queries or keys by their positions."""

    rope: Rope


@dataclass(frozen=True, slots=True)
class Attend:
    """Attention itself, of queries, keys and values."""

    attention: Attention


@dataclass(frozen=True, slots=True)
class Activate:
    """The activation of a feed-forward, of `gate` and `up` or of `up` alone; each modality's kind, in their order."""

    kinds: tuple[FfnKind | None, ...]


@dataclass(frozen=True, slots=True)
class MixExperts:
    """All of a feed-forward with experts: they take tokens as they like, of those that are there."""

    mixture: Mixture


@dataclass(frozen=True, slots=True)
class Add:
    """Add a branch to the residual stream."""


@dataclass(frozen=True, slots=True)
class Permute:
    """Bring tokens into another order."""

    to: Order


Operation = Apply | Rotate | Attend | Activate | MixExperts | Add | Permute


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation, in the order they run, and the sublayer that it is part of, empty outside the layers.

    Of the values written under a name the last one holds.
    `order` is the one it works in, and `needs` the one it must; None until that is decided, or if it is free.
    `numbers` is how many a token has in what it writes. `forced_by` tells of a permutation which steps need it.
    """

    sublayer: str
    operation: Operation
    reads: tuple[Value, ...]
    writes: Value
    numbers: int
    needs: Order | None = None
    order: Order | None = None
    forced_by: tuple[str, ...] = ()

    @property
    def permutes(self) -> bool:
        return isinstance(self.operation, Permute)

    @property
    def name(self) -> str:
        """What it is called to people: as the group it applies, `sort` or `unsort`, or as what it writes."""
        match self.operation:
            case Apply(leaf=leaf):
                return leaf.path
            case Permute(to="sorted"):
                return "sort"
            case Permute():
                return "unsort"
            case _:
                return self.writes.name


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterSteps:
    """What is done outside the layers: `embed` makes the stream of ids, `norm` comes after the last layer, and `read`
    makes logits, by the head or by the embedding's table. Each gets and gives tokens in the order the stream is kept
    in; none has steps before they are scheduled.
    """

    embed: tuple[Step, ...] = ()
    norm: tuple[Step, ...] = ()
    read: tuple[Step, ...] = ()

    def each(self, change: Callable[[tuple[Step, ...]], tuple[Step, ...]]) -> OuterSteps:
        """The same, each of the three being what a function makes of it; what has no steps stays so."""
        embed, norm, read = (change(steps) if steps else () for steps in (self.embed, self.norm, self.read))
        return OuterSteps(embed=embed, norm=norm, read=read)
