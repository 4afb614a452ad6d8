"""How a layer is executed: its operations one after the other, and in which order of tokens each works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Order = Literal["slots", "sorted"]


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
