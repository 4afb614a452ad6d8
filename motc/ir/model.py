"""The typed IR: what a model is, after names, selectors and defaults have been resolved.

Every parameter group is a `Leaf`: a path and one `Block` per block of its partition. A modality may be missing from a
leaf (an FFN without a gate, a tower without qk-norm); every modality of a leaf is in exactly one of its blocks.
Equal consecutive layers are one `Segment`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from motc.ir.mask import Mask
from motc.ir.partition import Partition
from motc.source import Span

NormKind = Literal["rms", "layer"]
FfnKind = Literal["swiglu", "geglu", "gelu", "relu2"]
Placement = Literal["pre", "post", "sublayer_output"]
RopePairing = Literal["half", "interleaved"]

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


Operator = Linear | Norm | Embedding


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
    """The feed-forward. `kinds` is each modality's, in their order; `gate` concerns those with a gated kind."""

    kinds: tuple[FfnKind, ...]
    gate: Leaf | None
    up: Leaf
    down: Leaf
    norm: Leaf

    def leaves(self) -> tuple[Leaf, ...]:
        found = (self.norm, self.gate, self.up, self.down)
        return tuple(leaf for leaf in found if leaf is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    placement: Placement
    attention: Attention
    ffn: Ffn

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
class Modality:
    """A token modality. `width` is its residual stream's; `vocab` its own table's size, or None where all share one."""

    name: str
    width: int
    vocab: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A whole model.

    `stream` is the partition the residual stream is kept in: finer than every layer's leaves, so each part of it meets
    one copy of every parameter; its order, and that of the modalities within it, is the stream's order.
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
    stream: Partition
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def layers(self) -> int:
        return self.segments[-1].last + 1

    def ends(self) -> tuple[Leaf, ...]:
        """The leaves outside the layers: embedding, final norm, head (None where it is tied to the embedding)."""
        return tuple(leaf for leaf in (self.embedding, self.final_norm, self.head) if leaf is not None)

    def modality(self, name: str) -> Modality:
        return next(modality for modality in self.modalities if modality.name == name)
