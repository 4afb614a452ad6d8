"""The typed IR: what a model is, after names, selectors and defaults have been resolved.

Every parameter group is a `Leaf`: a path and one `Block` per block of its partition. A modality may be missing from a
leaf (an FFN without a gate, a tower without qk-norm); every modality of a leaf is in exactly one of its blocks.
Equal consecutive layers are one `Segment`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

from motc.ir.mask import Mask
from motc.ir.partition import Partition
from motc.source import Span

NormKind = Literal["rms", "layer"]
FfnKind = Literal["swiglu", "geglu", "gelu", "relu2"]
Routing = Literal["top_k", "expert_choice"]
Placement = Literal["pre", "post", "sublayer_output"]
EndsKind = Literal["linear", "unet"]
Objective = Literal["ddpm", "flow"]
RopePairing = Literal["half", "interleaved"]

Strategy = Literal["sorted", "reference", "grouped", "blend"]
Order = Literal["slots", "sorted"]

GATED: frozenset[FfnKind] = frozenset(("swiglu", "geglu"))


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
class Block:
    """One copy of a leaf's parameters and the modalities that use it.

    `name` is its part of the parameter names: a tower's, or the modalities joined by `_`; empty if one serves all.
    """

    name: str
    modalities: tuple[str, ...]
    operator: Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A parameter group, such as `attention.q`, `ffn.norm` or `embedding`."""

    path: str
    blocks: tuple[Block, ...]

    def block_of(self, modality: str) -> Block | None:
        """The block a modality uses, or None where this leaf does not concern it."""
        return next((block for block in self.blocks if modality in block.modalities), None)

    def runs(self, order: tuple[str, ...]) -> tuple[tuple[Block | None, int], ...]:
        """The blocks met by modalities in this order, each with how many follow one another; None: not concerned."""
        found: list[tuple[Block | None, int]] = []
        for name in order:
            block = self.block_of(name)
            if found and found[-1][0] == block:
                found[-1] = (block, found[-1][1] + 1)
            else:
                found.append((block, 1))
        return tuple(found)

    def partition(self) -> tuple[tuple[str, ...], ...]:
        """The modalities of each block."""
        return tuple(block.modalities for block in self.blocks)


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
        found = (self.norm, self.q, self.k, self.v, self.q_norm, self.k_norm, self.out)
        return tuple(leaf for leaf in found if leaf is not None)


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
    moe: tuple[Moe | None, ...] = field(default=(), repr=False)
    router: Leaf | None = field(default=None, repr=False)
    shared_gate: Leaf | None = field(default=None, repr=False)
    shared_up: Leaf | None = field(default=None, repr=False)
    shared_down: Leaf | None = field(default=None, repr=False)

    def leaves(self) -> tuple[Leaf, ...]:
        return (self.norm, *self.inner())

    def inner(self) -> tuple[Leaf, ...]:
        """The leaves between the norm and the residual."""
        shared = (self.shared_gate, self.shared_up, self.shared_down)
        found = (self.router, self.gate, self.up, self.down, *shared)
        return tuple(leaf for leaf in found if leaf is not None)

    @property
    def is_balanced(self) -> bool:
        """Whether a load-balancing loss goes with it."""
        return any(moe is not None and moe.balance > 0 for moe in self.moe)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation of a layer, in the order they run.

    `op` is a leaf's path, or one of attention.rotate_q, attention.rotate_k, attention.mix, attention.add,
    ffn.activation, ffn.mixture (all of a feed-forward with experts), ffn.add, sort, unsort.
    It reads the values of these names and writes one of its own name; the last one written under a name holds.
    `order` is the one it works in: attention's slots, or sorted by modality; None until that is decided.
    `numbers` is how many a token has in what it writes. `forced_by` tells of a permutation which operation needs it.
    """

    op: str
    reads: tuple[str, ...]
    writes: str
    numbers: int
    needs: Order | None = None
    order: Order | None = None
    forced_by: tuple[str, ...] = ()

    @property
    def permutes(self) -> bool:
        return self.op in ("sort", "unsort")


SORTED = " sorted"


def sorted_name(value: str) -> str:
    """What a value is called in sorted order."""
    return value + SORTED


def base_name(value: str) -> str:
    """What a value is called in whichever order."""
    return value.removesuffix(SORTED)


def is_sorted(value: str) -> bool:
    """Whether a value of this name is in sorted order."""
    return value.endswith(SORTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer. `steps` follow from the rest: how it is executed."""

    placement: Placement
    attention: Attention
    ffn: Ffn
    steps: tuple[Step, ...] = field(default=(), compare=False, repr=False)

    def leaves(self) -> tuple[Leaf, ...]:
        return self.attention.leaves() + self.ffn.leaves()


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Layers `first` to `last`, both included, all alike."""

    first: int
    last: int
    layer: Layer

    @property
    def count(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLoss:
    """How the targets of a modality of tokens count. `weight` is that of each in the mean over all of them.

    `seen_targets` says whether one counts that the token before it sees; None where the mask shows it none.
    """

    weight: float = 1.0
    seen_targets: bool | None = None

    @property
    def is_plain(self) -> bool:
        """Whether each target counts 1."""
        return self.weight == 1.0 and self.seen_targets is not False


@dataclass(frozen=True, slots=True, kw_only=True)
class Modality:
    """A token modality. `width` is its residual stream's; `vocab` its own table's size, or None where all share one."""

    name: str
    width: int
    vocab: int | None
    loss: TokenLoss = field(default=TokenLoss(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentModality(Modality):
    """A continuous modality: no vocabulary, ends of its own, and a denoising objective with its weight in the loss."""

    ends: LatentEnds
    objective: Objective
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A whole model.

    `order` is the one in which tokens are sorted by modality, `residual` how the residual stream is kept between
    layers, `strategy` how modalities are told apart; none of them changes what a model means.
    """

    name: str
    modalities: tuple[Modality, ...]
    towers: Partition
    vocab: int | None
    tied_embedding: bool
    embedding: Leaf
    segments: tuple[Segment, ...]
    final_norm: Leaf | None
    head: Leaf | None
    order: tuple[str, ...] = field(compare=False, repr=False)
    strategy: Strategy = field(default="sorted", compare=False, repr=False)
    residual: Order = field(default="slots", compare=False, repr=False)
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def layers(self) -> int:
        return self.segments[-1].last + 1

    @property
    def mask(self) -> Mask:
        """Who sees whom; it is the same in all layers."""
        return self.segments[0].layer.attention.mask

    @property
    def is_balanced(self) -> bool:
        """Whether a load-balancing loss is part of the model's."""
        return any(layer.ffn.is_balanced for layer, _ in self.kinds())

    @property
    def moe(self) -> dict[str, Moe]:
        """The modalities that have a mixture of experts; it is the same in all layers."""
        found = self.segments[0].layer.ffn.moe
        return {modality.name: moe for modality, moe in zip(self.modalities, found, strict=False) if moe is not None}

    def kinds(self) -> tuple[tuple[Layer, int], ...]:
        """Every kind of layer there is, in the order of their first, with how many there are of it.

        Layers that are equal are one object from lowering on, so that thousands of layers cost what their kinds do.
        """
        counts: dict[int, int] = {}
        layers: dict[int, Layer] = {}
        for segment in self.segments:
            layers.setdefault(id(segment.layer), segment.layer)
            counts[id(segment.layer)] = counts.get(id(segment.layer), 0) + segment.count
        return tuple((layer, counts[key]) for key, layer in layers.items())

    def with_steps(self, steps: Callable[[Layer], tuple[Step, ...]]) -> Model:
        """The same model, each layer having the steps that a function of it gives."""
        made = {id(layer): replace(layer, steps=steps(layer)) for layer, _ in self.kinds()}
        segments = (replace(segment, layer=made[id(segment.layer)]) for segment in self.segments)
        return replace(self, segments=tuple(segments))

    def ends(self) -> tuple[Leaf, ...]:
        """The leaves outside the layers: embedding, ends of latents, final norm, head (none where it is tied)."""
        found = (self.embedding, self.latents(), self.final_norm, self.head)
        return tuple(leaf for leaf in found if leaf is not None)

    def latent_modalities(self) -> tuple[LatentModality, ...]:
        """The continuous modalities."""
        return tuple(modality for modality in self.modalities if isinstance(modality, LatentModality))

    def token_modalities(self) -> tuple[Modality, ...]:
        """The modalities that have a vocabulary, of their own or with others."""
        return tuple(modality for modality in self.modalities if not isinstance(modality, LatentModality))

    def latents(self) -> Leaf | None:
        """The ends of continuous modalities, each its own; None where there is none."""
        blocks = (
            Block(name=modality.name, modalities=(modality.name,), operator=modality.ends)
            for modality in self.latent_modalities()
        )
        found = tuple(blocks)
        return Leaf(path="latents", blocks=found) if found else None

    def leaves(self) -> tuple[Leaf, ...]:
        """Every leaf of a segment once, and the ends."""
        return (*(leaf for segment in self.segments for leaf in segment.layer.leaves()), *self.ends())

    def modality(self, name: str) -> Modality:
        return next(modality for modality in self.modalities if modality.name == name)
