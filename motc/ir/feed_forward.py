"""Feed-forwards and mixtures of experts: the bodies of sublayers in which each token is by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, assert_never, get_args

from motc.ir.leaf import Leaf
from motc.ir.operators import Activation
from motc.ir.routing import Choice, Routing

GatedKind = Literal["swiglu", "geglu", "geglu_tanh", "quick_geglu", "clamped_geglu", "reglu", "reglu2"]
FfnKind = Literal[GatedKind, Activation]

GATED: Mapping[FfnKind, Activation] = {
    "swiglu": "silu",
    "geglu": "gelu",
    "geglu_tanh": "gelu_tanh",
    "quick_geglu": "quick_gelu",
    "clamped_geglu": "quick_gelu",
    "reglu": "relu",
    "reglu2": "relu2",
}
"""The kinds with a gate beside `up`, each with the gate's activation. The others are called as their activation is."""

PLAIN: Mapping[FfnKind, Activation] = {activation: activation for activation in get_args(Activation)}


def activation_of(kind: FfnKind) -> Activation:
    """What a feed-forward's gate goes through or, where it has none, `up`."""
    return {**PLAIN, **GATED}[kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moe:
    """How a mixture of experts routes.

    `top_k`: each token goes to its `per_token` best experts. `expert_choice`: each expert takes its best tokens, so
    many that a token goes to `per_token` of them on average. `balance` weighs the load-balancing loss; 0: none.
    `shared` experts take every token besides; each is of size `shared_hidden`, None being that of the others, and with
    `shared_gate` a token takes a share of them alone. `choice` says more of how tokens choose. `router_bias`: the
    router's logits have biases.
    """

    experts: int
    routing: Routing
    per_token: Fraction
    balance: float
    shared: int = 0
    shared_hidden: int | None = None
    shared_gate: bool = False
    choice: Choice = Choice()
    router_bias: bool = False

    def __str__(self) -> str:
        """`4 experts, expert_choice, capacity factor 1`, `8 experts, top 2, balance 0.01`."""
        shared = f" and {self.shared} shared" if self.shared else ""
        shared += f" of size {self.shared_hidden}" if self.shared_hidden else ""
        shared += " with a gate" if self.shared_gate else ""
        shared += ", biases of the router" if self.router_bias else ""
        match self.routing:
            case "expert_choice":
                return f"{self.experts} experts{shared}, expert_choice, capacity factor {float(self.per_token):g}"
            case "top_k":
                said = "" if self.choice.is_plain else f", {self.choice}"
                return f"{self.experts} experts{shared}, top {self.per_token}{said}, balance {self.balance:g}"
            case _:
                assert_never(self.routing)


class TokenByToken:
    """A body that costs nothing but its groups, and keeps nothing of a token for those that follow."""

    __slots__ = ()

    def sequence_flops(self, length: int) -> int:
        """Products that are no group's: none."""
        return 0

    @property
    def cached_numbers(self) -> int:
        """How many numbers of a token are kept for those that follow: none."""
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForward(TokenByToken):
    """Up, an activation, and down; `gate` concerns the modalities with a gate.

    `kinds` is each modality's, in their order: None where it has no feed-forward, and nothing is added to its tokens.
    """

    kinds: tuple[FfnKind | None, ...]
    gate: Leaf | None
    up: Leaf
    down: Leaf

    @property
    def out(self) -> Leaf:
        """The group that ends in the stream's width."""
        return self.down

    @property
    def inner(self) -> tuple[Leaf, ...]:
        """The groups that read what the body reads."""
        return (self.up,) if self.gate is None else (self.gate, self.up)

    def leaves(self) -> tuple[Leaf, ...]:
        """Its parameter groups, in the order of the forward."""
        return (*self.inner, self.down)

    @property
    def settings(self) -> dict[str, object]:
        """All of it that is not in the shapes of its parameters, by the language's keys."""
        return {"kind": self.kinds}

    def __str__(self) -> str:
        """`swiglu, none`: each modality's kind."""
        return ", ".join(kind or "none" for kind in self.kinds)

    def brief(self, modalities: tuple[str, ...]) -> str:
        """`swiglu`: each kind once."""
        return ", ".join(dict.fromkeys(kind for kind in self.kinds if kind is not None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture(TokenByToken):
    """A feed-forward that has experts for one modality at least; `kinds` are then those of an expert.

    `moe` is each modality's mixture, in their order, None where it has a plain feed-forward. `router` concerns the
    modalities that have one; `shared_gate`, `shared_up` and `shared_down` those with shared experts, which are one
    feed-forward of their sizes together, and `shared_router` those that take a share of them.
    """

    kinds: tuple[FfnKind | None, ...]
    moe: tuple[Moe | None, ...]
    router: Leaf
    gate: Leaf | None
    up: Leaf
    down: Leaf
    shared_gate: Leaf | None = None
    shared_up: Leaf | None = None
    shared_down: Leaf | None = None
    shared_router: Leaf | None = None

    @property
    def out(self) -> Leaf:
        """The group that ends in the stream's width."""
        return self.down

    def leaves(self) -> tuple[Leaf, ...]:
        """Its parameter groups, in the order of the forward."""
        shared = self.shared
        leaves = (self.router, self.gate, self.up, self.down, *shared)
        return tuple(leaf for leaf in leaves if leaf is not None)

    @property
    def shared(self) -> tuple[Leaf | None, ...]:
        """The groups of shared experts."""
        return (self.shared_gate, self.shared_up, self.shared_down, self.shared_router)

    def by_modality(self, modalities: tuple[str, ...]) -> dict[str, Moe]:
        """Those of the model's modalities that have experts, each with its mixture."""
        return {name: moe for name, moe in zip(modalities, self.moe, strict=True) if moe is not None}

    @property
    def is_balanced(self) -> bool:
        """Whether a load-balancing loss goes with it."""
        return any(moe is not None and moe.balance > 0 for moe in self.moe)

    @property
    def settings(self) -> dict[str, object]:
        """All of it that is not in the shapes of its parameters, by the language's keys."""
        return {"kind": self.kinds, "experts": self.moe}

    def __str__(self) -> str:
        """`swiglu, gelu; experts: 4 experts, top 2, balance 0.01, none`: each modality's kind and mixture."""
        kinds, experts = (", ".join(str(each or "none") for each in held) for held in (self.kinds, self.moe))
        return f"{kinds}; experts: {experts}"

    def brief(self, modalities: tuple[str, ...]) -> str:
        """`swiglu, 4 experts, top 2, balance 0.01 for text`: each kind once, and who has which mixture."""
        names_of: dict[Moe, list[str]] = {}
        for name, moe in self.by_modality(modalities).items():
            names_of.setdefault(moe, []).append(name)
        mixtures = (f"{moe} for {', '.join(names)}" for moe, names in names_of.items())
        return ", ".join((*dict.fromkeys(kind for kind in self.kinds if kind is not None), *mixtures))
