"""How a model is executed: its operations one after the other, and in which order of tokens each works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from motc.ir.attention import Attention
from motc.ir.feed_forward import FfnKind, Mixture
from motc.ir.leaf import Leaf
from motc.ir.mask import Mask
from motc.ir.rope import Rope

StreamOrder = Literal["slots", "sorted"]
Order = Literal[StreamOrder, "batch", "targets"]
"""How tokens stand: in attention's slots; sorted by modality; as in the batch; sorted by what they are to predict.

The stream is kept in one of the first two, and the last two are made from that.
"""


@dataclass(frozen=True, slots=True)
class Value:
    """What a step reads or writes, and how its tokens stand.

    Until permutations are placed, every value is said to be in slots. What is of no tokens is said to be in the order
    that the stream is kept in.
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
    """Rotate queries or keys by their positions; `of_last`: only as many of a head's last components as rotate."""

    rope: Rope
    of_last: bool = False


@dataclass(frozen=True, slots=True)
class JoinKeys:
    """Behind each head's own part of a key the part that is one for all heads."""


@dataclass(frozen=True, slots=True)
class Attend:
    """Attention itself, of queries, keys and values."""

    attention: Attention


@dataclass(frozen=True, slots=True)
class Gate:
    """Multiply what attention made by the sigmoid of a gate."""


@dataclass(frozen=True, slots=True)
class Activate:
    """The activation of a feed-forward, of `gate` and `up` or of `up` alone; each modality's kind, in their order."""

    kinds: tuple[FfnKind | None, ...]


@dataclass(frozen=True, slots=True)
class MixExperts:
    """All of a feed-forward with experts: they take tokens as they like, of those that are there."""

    mixture: Mixture


@dataclass(frozen=True, slots=True)
class LeaveOut:
    """Let what was made be zeros for tokens that find none of those to which the mask has them attend."""

    mask: Mask


@dataclass(frozen=True, slots=True)
class Add:
    """Add a branch, times `scale`, to the residual stream."""

    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Modulate:
    """Scale and shift what a norm gives by what its span's condition says, by each modality's copy of a group."""

    leaf: Leaf


@dataclass(frozen=True, slots=True)
class GateBranch:
    """Multiply what is to be added to the residual stream by what its span's condition says."""

    leaf: Leaf


@dataclass(frozen=True, slots=True)
class Permute:
    """Bring tokens into another order."""

    to: Order


@dataclass(frozen=True, slots=True)
class PlacePatches:
    """Put the patches of latents, and features, at their places in the stream."""


@dataclass(frozen=True, slots=True)
class AddFeatures:
    """Add features' further vectors to the states of their tokens, after the layers that these are given for."""


@dataclass(frozen=True, slots=True)
class Read:
    """Make logits of states: by the head, or by the tables of an embedding that it is tied to.

    `own`: in each modality's own vocabulary, of every state. `skips_continuous`: states of tokens without ids have
    zeros.
    """

    leaf: Leaf
    is_tied: bool
    own: bool
    skips_continuous: bool


@dataclass(frozen=True, slots=True)
class ZeroContinuous:
    """Let what belongs to tokens without ids be zeros."""


Counted = Literal["pieces", "targets", "masked"]


@dataclass(frozen=True, slots=True)
class TakeLosses:
    """The sum of each modality's losses, of states: a head at a time, so that no more logits are kept than one makes.

    A shared vocabulary's head is given the `pieces` of the sorted stream that have ids. That of an own one is
    given the states before its own `targets`, or all of them, with others' targets `masked` out.
    """

    leaf: Leaf
    is_tied: bool
    counted: Counted


@dataclass(frozen=True, slots=True)
class SumLosses:
    """The sum of each modality's losses, of a shared vocabulary's logits at every place of the stream."""


@dataclass(frozen=True, slots=True)
class Predict:
    """Make predictions of the states of latents, by their ends."""


InAttention = Rotate | JoinKeys | Attend | Gate
InLayers = Apply | InAttention | Activate | MixExperts | LeaveOut | Add | Permute | Modulate | GateBranch
Losses = TakeLosses | SumLosses
Outside = Apply | Modulate | Permute | PlacePatches | AddFeatures | Read | ZeroContinuous | Losses | Predict
Operation = InLayers | Outside


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
    def is_sum(self) -> bool:
        """Whether it adds up over tokens, so that what it writes is of none."""
        return isinstance(self.operation, TakeLosses | SumLosses)

    @property
    def name(self) -> str:
        """What it is called to people: as the group it applies, `sort` or `unsort`, or as what it writes."""
        match self.operation:
            case Apply(leaf=leaf):
                return leaf.path
            case Permute(to="slots"):
                return "unsort"
            case Permute(to="sorted"):
                return "sort"
            case Permute(to=order):
                return f"to_{order}"
            case Read(leaf=leaf):
                return leaf.path
            case _:
                return self.writes.name


Steps = tuple[Step, ...]

SPANS = Value("spans")
"""Of each token which of its condition's vectors it has."""

ENTERING = frozenset({"x", "ids", "normed", SPANS.name})
"""What values are called that are there before steps run: what comes into a layer, or a part outside the layers."""


def entering(steps: Steps) -> tuple[Value, ...]:
    """The values that are there before these steps run, in the order in which they are read."""
    written = {step.writes for step in steps}
    read = (value for step in steps for value in step.reads)
    return tuple(dict.fromkeys(value for value in read if value.name in ENTERING and value not in written))


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterSteps:
    """What is done outside the layers, in parts that a model calls one by one; they are empty until they are scheduled.

    `embed` makes the stream of ids, and `place` puts what has no ids into it; `locate` makes of positions, which are
    ids too, what is added to it; `enter` norms it. `add` comes after each layer, and `leave`, an adaptive norm, after
    the last one. Then comes `norm`; of what that gives `read` makes logits, `score` losses, and `predict` predictions
    of latents.
    """

    embed: Steps = ()
    place: Steps = ()
    locate: Steps = ()
    enter: Steps = ()
    add: Steps = ()
    leave: Steps = ()
    norm: Steps = ()
    read: Steps = ()
    score: Steps = ()
    predict: Steps = ()

    def parts(self) -> tuple[tuple[Steps, Order | None], ...]:
        """Each part, and the order of what it gives: None for the stream's, in which all get what they work on."""
        return (
            (self.embed, None),
            (self.place, None),
            (self.locate, None),
            (self.enter, None),
            (self.add, None),
            (self.leave, None),
            (self.norm, None),
            (self.read, "batch"),
            (self.score, None),
            (self.predict, None),
        )

    def each(self, change: Callable[[Steps, Order | None], Steps]) -> OuterSteps:
        """The same, each part being what a function makes of it, and of the order that it gives; empty ones stay so."""
        changed = (change(steps, gives) if steps else () for steps, gives in self.parts())
        embed, place, locate, enter, add, leave, norm, read, score, predict = changed
        before = OuterSteps(embed=embed, place=place, locate=locate, enter=enter, add=add, leave=leave)
        return replace(before, norm=norm, read=read, score=score, predict=predict)
