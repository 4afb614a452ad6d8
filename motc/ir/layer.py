"""One layer: attention, a feed-forward or a mixture of experts, and how both join the residual stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from motc.ir.leaf import Leaf
from motc.ir.mask import Mask
from motc.ir.steps import Step

FfnKind = Literal["swiglu", "geglu", "gelu", "relu2"]
Routing = Literal["top_k", "expert_choice"]
Placement = Literal["pre", "post", "sublayer_output"]
RopePairing = Literal["half", "interleaved"]

GATED: frozenset[FfnKind] = frozenset(("swiglu", "geglu"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Moe:
    """How a mixture of experts routes.

    `top_k`: each token goes to its `per_token` best experts. `expert_choice`: each expert takes its best tokens, so
    many that a token goes to `per_token` of them on average. `balance` weighs the load-balancing loss; 0: none.
    `shared` experts take every token besides.
    """

    experts: int
    routing: Routing
    per_token: Fraction
    balance: float
    shared: int = 0

    def __str__(self) -> str:
        """`4 experts, expert_choice, capacity factor 1`, `8 experts, top 2, balance 0.01`."""
        shared = f" and {self.shared} shared" if self.shared else ""
        if self.routing == "expert_choice":
            return f"{self.experts} experts{shared}, expert_choice, capacity factor {float(self.per_token):g}"
        return f"{self.experts} experts{shared}, top {self.per_token}, balance {self.balance:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Rotary positions: pairs (i, i + head_dim/2) for `half`, (2i, 2i + 1) for `interleaved`."""

    theta: float
    pairing: RopePairing


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Attention over all tokens of a document. q_norm and k_norm are None, or may concern some towers only."""

    heads: int
    kv_heads: int
    head_dim: int
    mask: Mask
    rope: Rope | None
    q: Leaf
    k: Leaf
    v: Leaf
    out: Leaf
    q_norm: Leaf | None
    k_norm: Leaf | None
    norm: Leaf

    def leaves(self) -> tuple[Leaf, ...]:
        leaves = (self.norm, self.q, self.k, self.v, self.q_norm, self.k_norm, self.out)
        return tuple(leaf for leaf in leaves if leaf is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ffn:
    """The feed-forward. `kinds` is each modality's, in their order; `gate` concerns those with a gated kind.

    `moe` is each modality's mixture of experts, None where it has none, and empty where no modality has one; `kinds`
    are then those of an expert. `router` concerns the modalities that have one, `shared_gate`,
    `shared_up` and `shared_down` those with shared experts, which are one feed-forward of their sizes together.
    """

    kinds: tuple[FfnKind, ...]
    gate: Leaf | None
    up: Leaf
    down: Leaf
    norm: Leaf
    moe: tuple[Moe | None, ...] = ()
    router: Leaf | None = None
    shared_gate: Leaf | None = None
    shared_up: Leaf | None = None
    shared_down: Leaf | None = None

    def leaves(self) -> tuple[Leaf, ...]:
        return (self.norm, *self.inner())

    def inner(self) -> tuple[Leaf, ...]:
        """The leaves between the norm and the residual."""
        shared = (self.shared_gate, self.shared_up, self.shared_down)
        leaves = (self.router, self.gate, self.up, self.down, *shared)
        return tuple(leaf for leaf in leaves if leaf is not None)

    @property
    def is_balanced(self) -> bool:
        """Whether a load-balancing loss goes with it."""
        return any(moe is not None and moe.balance > 0 for moe in self.moe)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer. `steps` follow from the rest: how it is executed."""

    placement: Placement
    attention: Attention
    ffn: Ffn
    steps: tuple[Step, ...] = field(default=(), compare=False)

    def leaves(self) -> tuple[Leaf, ...]:
        return self.attention.leaves() + self.ffn.leaves()

    def steps_of(self, sublayer: str) -> tuple[Step, ...]:
        """The steps of a sublayer, in the order they run."""
        return tuple(step for step in self.steps if step.sublayer == sublayer)
