"""Attention: the body of a sublayer in which tokens meet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from motc.ir.leaf import Block, Leaf
from motc.ir.low_rank import LowRank
from motc.ir.mask import Mask, Names
from motc.ir.rope import NO_ROPE, Angles, Rope

HeadNormPlace = Literal["before_rope", "after_rope"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Modalities that read others, and the copies of the maps of keys and values through which they do."""

    modalities: Names
    reads: Names
    k: Block
    v: Block


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Attention over all tokens of a document. q_norm and k_norm are None, or may concern some towers only; they stand
    before positions are rotated in, or after.

    Scores are products of queries and keys times `scale`, None for 1 / sqrt(head_dim). With a `softcap` c they become
    c * tanh(scores / c). With a `clip` c queries, keys and values are within -c and c before they are normed. With a
    `gate` what it makes is multiplied by the sigmoid of what that makes of the stream. With `sinks` each query has a
    score more, of its head, that brings no value. Gates and sinks may concern some towers only.

    Modalities that the mask says read others have no keys and values of their own: their `k` and `v` are maps of those
    that they read, normed and rotated as these are, all heads of a token together. Their queries are rotated by
    positions from 0.

    Values may be of another size than queries and keys, `value_dim`. With `low_rank`, what is given to `k` and `v`, and
    it may be to `q`, is less than the stream: see there.
    """

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
    scale: float | None = None
    softcap: float | None = None
    norm_place: HeadNormPlace = "before_rope"
    gate: Leaf | None = None
    sinks: Leaf | None = None
    clip: float | None = None
    value_dim: int | None = None
    low_rank: LowRank | None = None

    def leaves(self) -> tuple[Leaf, ...]:
        """Its parameter groups, in the order of the forward."""
        first = () if self.low_rank is None else self.low_rank.leaves()
        leaves = (*first, self.q, self.k, self.v, self.q_norm, self.k_norm, self.sinks, self.gate, self.out)
        return tuple(leaf for leaf in leaves if leaf is not None)

    @property
    def value_size(self) -> int:
        """The size of a head's values."""
        return self.value_dim or self.head_dim

    @property
    def rotated_size(self) -> int:
        """The size of what rotary positions are of: a head, or its last components."""
        return self.head_dim if self.low_rank is None else self.low_rank.ranks.rope_dim

    def before(self, leaf: Leaf) -> tuple[Leaf, ...]:
        """The groups through which what a group reads has gone; none for those that read the stream."""
        low = self.low_rank
        if low is None or leaf not in (self.q, self.k, self.v):
            return ()
        each = (low.q_down, low.q_down_norm) if leaf == self.q else (low.kv_down, low.kv_down_norm)
        return tuple(group for group in each if group is not None)

    def heads_of(self, leaf: Leaf) -> tuple[int, int] | None:
        """Into how many heads of which size what a group makes is cut; None where it is not."""
        shared = 0 if self.low_rank is None else self.low_rank.ranks.rope_dim
        if leaf == self.q:
            return self.heads, self.head_dim
        if leaf == self.k:
            return self.kv_heads, self.head_dim - shared
        if leaf == self.v:
            return self.kv_heads, self.value_size
        return (1, shared) if self.low_rank is not None and leaf == self.low_rank.k_rope else None

    @property
    def settings(self) -> dict[str, object]:
        """All of it that is not in the shapes of its parameters, by the language's keys."""
        rope = self.rope
        of_rope = NO_ROPE if rope is None else rope.settings
        return {
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "value_dim": self.value_dim,
            "low_rank": None if self.low_rank is None else self.low_rank.ranks,
            "scale": "1/sqrt(head_dim)" if self.scale is None else self.scale,
            "softcap": self.softcap,
            "clip": self.clip,
            "qk_norm.place": self.norm_place,
            "mask": replace(self.mask, window=None),
            "window": self.mask.window,
            "rope": None if rope is None else rope.summary,
            **{f"rope.{key}": value for key, value in of_rope.items()},
        }

    @property
    def angles(self) -> Angles | None:
        """What the angles that it rotates by follow from; None where it does not rotate."""
        return None if self.rope is None else self.rope.angles(self.rotated_size)._replace(restarting=self.mask.readers)

    @property
    def readers(self) -> tuple[Reader, ...]:
        """The modalities that read others, those together that read the same ones through the same maps."""
        each: dict[tuple[Names, Block | None, Block | None], list[str]] = {}
        for name, read in self.mask.reads:
            each.setdefault((read, self.k.block_of(name), self.v.block_of(name)), []).append(name)
        return tuple(
            Reader(modalities=tuple(names), reads=read, k=k, v=v)
            for (read, k, v), names in each.items()
            if k is not None and v is not None
        )

    def sequence_flops(self, length: int) -> int:
        """Products that are no group's, for a sequence: scores and weighted sums, the full square for any mask."""
        return 2 * self.heads * (self.head_dim + self.value_size) * length**2

    @property
    def cached_numbers(self) -> int:
        """How many numbers of a token are kept for those that follow: its keys and values."""
        return self.kv_heads * (self.head_dim + self.value_size)

    def __str__(self) -> str:
        """`4 heads, 2 kv heads of 32, causal, rope theta 10000 half, softcap 50`."""
        rope = "no rope" if self.rope is None else f"rope {self.rope}"
        return f"{self.heads} heads, {self.kv_heads} kv heads of {self.head_dim}, {self.mask}, {rope}{self._otherwise}"

    def brief(self, modalities: tuple[str, ...]) -> str:
        """`4 heads of 32, 2 kv heads, causal`."""
        kv_heads = f", {self.kv_heads} kv heads" if self.kv_heads != self.heads else ""
        return f"{self.heads} heads of {self.head_dim}{kv_heads}, {self.mask}{self._otherwise}"

    @property
    def _otherwise(self) -> str:
        """What is not the usual of heads and scores: `, values of 8, scale 0.1, softcap 50`."""
        told = "" if self.value_dim is None else f", values of {self.value_dim}"
        told += "" if self.low_rank is None else f", low rank {self.low_rank.ranks}"
        told += "" if self.norm_place == "before_rope" else ", qk-norm after rope"
        told += "" if self.scale is None else f", scale {self.scale:g}"
        told += "" if self.softcap is None else f", softcap {self.softcap:g}"
        return told + ("" if self.clip is None else f", clip {self.clip:g}")
