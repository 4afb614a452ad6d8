"""Partitions of the modalities: the one idea that says what is shared and what is untied.

A partition is a set of disjoint, non-empty blocks that cover a universe of names. With every name a block by itself it
is a Mixture-of-Transformers, with all names in one block a dense model; all others lie between.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Partition:
    """Blocks in the order of their first name; names in a block in the order of the universe."""

    universe: tuple[str, ...]
    blocks: tuple[tuple[str, ...], ...]

    @staticmethod
    def of(universe: Iterable[str], blocks: Iterable[Iterable[str]]) -> Partition:
        """The partition with these blocks, put in canonical order.

        Raises ValueError if the blocks overlap, are empty or do not cover the universe.
        """
        names = tuple(universe)
        rank = {name: index for index, name in enumerate(names)}
        try:
            ordered = sorted((tuple(sorted(block, key=rank.__getitem__)) for block in blocks), key=lambda b: rank[b[0]])
        except (KeyError, IndexError) as error:
            raise ValueError(f"not a block of {names}: {error}") from None
        flat = [name for block in ordered for name in block]
        if len(flat) != len(names) or set(flat) != set(names):
            raise ValueError(f"{ordered} is no partition of {names}")
        return Partition(names, tuple(ordered))

    @staticmethod
    def one(universe: Iterable[str]) -> Partition:
        """Everything in one block: dense."""
        names = tuple(universe)
        return Partition(names, (names,))

    @staticmethod
    def each(universe: Iterable[str]) -> Partition:
        """Every name its own block: a Mixture-of-Transformers."""
        names = tuple(universe)
        return Partition(names, tuple((name,) for name in names))

    def only(self, names: Iterable[str]) -> Partition:
        """The partition of these names alone."""
        kept = [name for name in self.universe if name in set(names)]
        cut = (tuple(name for name in block if name in kept) for block in self.blocks)
        return Partition.of(kept, (block for block in cut if block))

    def block_of(self, name: str) -> tuple[str, ...]:
        """The block that holds `name`. Raises KeyError if none does."""
        for block in self.blocks:
            if name in block:
                return block
        raise KeyError(name)

    def __str__(self) -> str:
        return " ".join("{" + " ".join(block) + "}" for block in self.blocks)
