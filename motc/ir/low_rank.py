"""Queries, keys and values made of few numbers: multi-head latent attention (DeepSeek-V2, arXiv 2405.04434)."""

from __future__ import annotations

from dataclasses import dataclass

from motc.ir.leaf import Leaf


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """The sizes of low-rank attention; `eps` is that of its norms.

    A token has `kv` numbers of which its keys and values are made, and with `q` so many for its queries. The last
    `rope_dim` components of a key are the same in all heads, made of the stream; they rotate, with those of queries.
    """

    kv: int
    rope_dim: int
    eps: float
    q: int | None = None

    def __str__(self) -> str:
        """`kv 512, q 1536, rope_dim 64`, as keys of the language."""
        q = "" if self.q is None else f", q {self.q}"
        return f"kv {self.kv}{q}, rope_dim {self.rope_dim}, eps {self.eps:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """What is before the maps of attention where these are of low rank.

    Keys and values are made of what `kv_down_norm` makes of `kv_down`, queries likewise where there is a `q_down`; the
    key's part that is one for all heads is `k_rope`.
    """

    ranks: Ranks
    kv_down: Leaf
    kv_down_norm: Leaf
    k_rope: Leaf
    q_down: Leaf | None = None
    q_down_norm: Leaf | None = None

    def leaves(self) -> tuple[Leaf, ...]:
        """Its parameter groups, in the order of the forward."""
        each = (self.q_down, self.q_down_norm, self.kv_down, self.kv_down_norm, self.k_rope)
        return tuple(leaf for leaf in each if leaf is not None)
