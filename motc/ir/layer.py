"""One layer: sublayers that join the residual stream one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from motc.ir.attention import Attention
from motc.ir.feed_forward import FeedForward, Mixture
from motc.ir.leaf import Leaf
from motc.ir.steps import Step

Placement = Literal["pre", "post", "sublayer_output"]
Body = Attention | FeedForward | Mixture


@dataclass(frozen=True, slots=True, kw_only=True)
class Sublayer:
    """What a body makes of the stream is added to it: x + after(body(before(x))), all of it through `joined`.

    `role` is what its parameters' paths begin with, such as `attention`. Norms that there are not are None.
    Every modality has the body, though of its groups only those of its kind; of a feed-forward it may have nothing.
    """

    role: str
    body: Body
    before: Leaf | None = None
    after: Leaf | None = None
    joined: Leaf | None = None

    @property
    def norms(self) -> dict[Placement, Leaf]:
        """The norms that there are, by what the language calls their place."""
        norms: dict[Placement, Leaf | None] = {"pre": self.before, "sublayer_output": self.after, "post": self.joined}
        return {placement: leaf for placement, leaf in norms.items() if leaf is not None}

    def leaves(self) -> tuple[Leaf, ...]:
        """Its parameter groups: norms, and then the body's in the order of the forward."""
        return (*self.norms.values(), *self.body.leaves())


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
    def feed_forwards(self) -> tuple[FeedForward | Mixture, ...]:
        """The bodies in which each token is by itself."""
        return tuple(sublayer.body for sublayer in self.sublayers if isinstance(sublayer.body, FeedForward | Mixture))

    @property
    def mixtures(self) -> tuple[Mixture, ...]:
        """The bodies that have experts."""
        return tuple(sublayer.body for sublayer in self.sublayers if isinstance(sublayer.body, Mixture))

    @property
    def placement(self) -> str:
        """Where norms stand, in the language's words: of all sublayers, or of each if they differ."""
        places = [" and ".join(sublayer.norms) or "none" for sublayer in self.sublayers]
        return ", ".join(places if len(set(places)) > 1 else places[:1])

    @property
    def settings(self) -> dict[str, object]:
        """All of it that is not in the shapes of its parameters, by the language's keys: `attention.mask`."""
        of_bodies = {
            f"{sublayer.role}.{key}": value
            for sublayer in self.sublayers
            for key, value in sublayer.body.settings.items()
        }
        roles = ", ".join(sublayer.role for sublayer in self.sublayers)
        return {"sublayers": roles, **of_bodies, "norm.placement": self.placement}

    def steps_of(self, sublayer: Sublayer) -> tuple[Step, ...]:
        """The steps of a sublayer, in the order they run."""
        return tuple(step for step in self.steps if step.sublayer == sublayer.role)
