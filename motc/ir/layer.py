"""One layer: sublayers that join the residual stream one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, assert_never

from motc.ir.attention import Attention
from motc.ir.feed_forward import FeedForward, Mixture
from motc.ir.leaf import Leaf
from motc.ir.mask import Mask
from motc.ir.steps import Step

NormPlace = Literal["pre", "post", "sublayer_output"]
Placement = Literal[NormPlace, "both", "none"]
Parallel = Literal["one_norm", "two_norms"]
"""How sublayers stand side by side: behind the norm of the first, or each behind its own."""
Source = Literal["stream", "entry", "normed"]
Onto = Literal["stream", "entry"]
Body = Attention | FeedForward | Mixture


@dataclass(frozen=True, slots=True, kw_only=True)
class Sublayer:
    """What a body makes of the stream is added to it: x + scale * gate(after(body(before(x)))), all through `joined`.

    It reads the stream as it comes to it or, in parallel to the sublayers before it, as it came into the layer: that
    `entry`, or what the first sublayer's norm made of it, `normed`. What it makes is added `onto` the stream or onto
    that entry.

    What `modulation` makes of a condition scales and shifts what `before` gives, and gates what is added. Where
    it reads what the first sublayer's norm gives, that one's modulation gates what it adds.
    `role` is what its parameters' paths begin with, such as `attention`. Norms that there are not are None, and so is
    `out_gate`, by which what is added is multiplied.
    Every modality has the body, though of its groups only those of its kind; of a feed-forward it may have nothing.
    """

    role: str
    body: Body
    before: Leaf | None = None
    after: Leaf | None = None
    modulation: Leaf | None = None
    joined: Leaf | None = None
    reads: Source = "stream"
    onto: Onto = "stream"
    scale: float = 1.0
    out_gate: Leaf | None = None

    @classmethod
    def placed(cls, role: str, body: Body, placement: Placement, leaves: Mapping[str, Leaf | None]) -> Sublayer:
        """The sublayer of a body, with those of its layer's groups, by their paths, that stand around it."""
        norm = leaves[f"{role}.norm"]  # none where it reads what the first sublayer's norm gives
        modulation, gate = leaves[f"{role}.modulation"], leaves[f"{role}.out_gate"]
        match placement:
            case "pre":
                return cls(role=role, body=body, before=norm, modulation=modulation, out_gate=gate)
            case "sublayer_output":
                return cls(role=role, body=body, after=norm, out_gate=gate)
            case "post":
                return cls(role=role, body=body, joined=norm, out_gate=gate)
            case "both":
                after = leaves[f"{role}.out_norm"]
                return cls(role=role, body=body, before=norm, after=after, modulation=modulation, out_gate=gate)
            case "none":
                return cls(role=role, body=body, out_gate=gate)
            case _:
                assert_never(placement)

    @property
    def norms(self) -> dict[NormPlace, Leaf]:
        """The norms that there are, by what the language calls their place."""
        norms: dict[NormPlace, Leaf | None] = {"pre": self.before, "sublayer_output": self.after, "post": self.joined}
        return {placement: leaf for placement, leaf in norms.items() if leaf is not None}

    @property
    def placement(self) -> str:
        """Where its norms stand, in the language's words."""
        places = tuple(self.norms)
        return "both" if places == ("pre", "sublayer_output") else " and ".join(places) or "none"

    def leaves(self) -> tuple[Leaf, ...]:
        """Its parameter groups: norms, modulation, then the body's in the order of the forward, and a gate."""
        conditioned, gated = (() if leaf is None else (leaf,) for leaf in (self.modulation, self.out_gate))
        return (*self.norms.values(), *conditioned, *self.body.leaves(), *gated)


class Placements(NamedTuple):
    """Where the norms of a layer's sublayers stand, in the language's words: the same everywhere, or each role's."""

    everywhere: str = "none"
    by_role: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of_roles(cls, places: Mapping[str, str]) -> Placements:
        """From the placement of each sublayer."""
        each = set(places.values())
        return cls(everywhere=each.pop()) if len(each) == 1 else cls(by_role=tuple(places.items()))

    def of(self, role: str) -> str:
        """Where those of a sublayer stand, if it is there."""
        return dict(self.by_role).get(role, self.everywhere)

    def __str__(self) -> str:
        """`pre`, or of each sublayer: `attention pre, ffn none`."""
        return ", ".join(f"{role} {placement}" for role, placement in self.by_role) or self.everywhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer. `steps` follow from its sublayers: how it is executed."""

    sublayers: tuple[Sublayer, ...]
    steps: tuple[Step, ...] = field(default=(), compare=False)

    def leaves(self) -> tuple[Leaf, ...]:
        """The parameter groups of all sublayers."""
        return tuple(leaf for sublayer in self.sublayers for leaf in sublayer.leaves())

    def body(self, role: str) -> Body | None:
        """The body of the sublayer of a role, if there is one."""
        return next((sublayer.body for sublayer in self.sublayers if sublayer.role == role), None)

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """The bodies in which tokens meet."""
        return tuple(sublayer.body for sublayer in self.sublayers if isinstance(sublayer.body, Attention))

    @property
    def crossing(self) -> Mask | None:
        """The mask by which tokens attend to others alone, if they do: who finds none of them is left as it is."""
        return next((attention.mask for attention in self.attentions if attention.mask.crosses), None)

    @property
    def feed_forwards(self) -> tuple[FeedForward | Mixture, ...]:
        """The bodies in which each token is by itself."""
        return tuple(sublayer.body for sublayer in self.sublayers if isinstance(sublayer.body, FeedForward | Mixture))

    @property
    def mixtures(self) -> tuple[Mixture, ...]:
        """The bodies that have experts."""
        return tuple(sublayer.body for sublayer in self.sublayers if isinstance(sublayer.body, Mixture))

    @property
    def placements(self) -> Placements:
        """Where the norms of each sublayer stand."""
        return Placements.of_roles({sublayer.role: sublayer.placement for sublayer in self.sublayers})

    @property
    def parallel(self) -> Parallel | None:
        """Whether sublayers stand side by side."""
        sources = {sublayer.reads for sublayer in self.sublayers}
        return "one_norm" if "normed" in sources else "two_norms" if "entry" in sources else None

    @property
    def residual_scale(self) -> float:
        """What is multiplied with what all sublayers make."""
        (scale,) = {sublayer.scale for sublayer in self.sublayers}
        return scale

    @property
    def residual_around(self) -> str:
        """What is added to what comes into it, in the language's words: each sublayer, or the whole layer."""
        return "layer" if any(sublayer.onto == "entry" for sublayer in self.sublayers) else "sublayer"

    @property
    def settings(self) -> dict[str, object]:
        """All of it that is not in the shapes of its parameters, by the language's keys: `attention.mask`."""
        of_bodies = {
            f"{sublayer.role}.{key}": value
            for sublayer in self.sublayers
            for key, value in sublayer.body.settings.items()
        }
        roles = ", ".join(sublayer.role for sublayer in self.sublayers)
        return {
            "sublayers": roles,
            "parallel": self.parallel,
            **of_bodies,
            "norm.placement": str(self.placements),
            "residual.scale": self.residual_scale,
            "residual.around": self.residual_around,
        }

    def gate_of(self, sublayer: Sublayer) -> Leaf | None:
        """The modulation that gates what a sublayer adds: its own, or that of the norm that it reads; if any."""
        modulation = self.sublayers[0].modulation if sublayer.reads == "normed" else sublayer.modulation
        return modulation if modulation is not None and modulation.modulates("gate") else None

    def lends(self, sublayer: Sublayer) -> bool:
        """Whether what a sublayer makes of conditions gates what others add."""
        gate, others = self.gate_of(sublayer), [each for each in self.sublayers if each.reads == "normed"]
        return gate is not None and sublayer is self.sublayers[0] and bool(others)

    def steps_of(self, sublayer: Sublayer) -> tuple[Step, ...]:
        """The steps of a sublayer, in the order they run."""
        return tuple(step for step in self.steps if step.sublayer == sublayer.role)
