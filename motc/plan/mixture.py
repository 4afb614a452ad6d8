"""A feed-forward with experts, cut into what is done at once."""

from __future__ import annotations

from dataclasses import dataclass

from motc.ir.feed_forward import FeedForward, Mixture, Moe
from motc.ir.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """The pieces `pieces` of the tokens, in the order modalities are sorted in, that go through the same parameters.

    `members` are the modalities of each piece. With `moe`, its experts are for all of these tokens; routers that tokens
    choose by, and shared experts, may be each piece's own.
    """

    members: tuple[tuple[str, ...], ...]
    pieces: tuple[int, ...]
    moe: Moe | None

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those of all pieces."""
        return tuple(name for names in self.members for name in names)


def mixture_units(mixture: Mixture, model: Model, counts: tuple[int, ...]) -> tuple[Unit, ...]:
    """The units of a mixture of experts within which piece i holds `counts[i]` modalities.

    Tokens that share their experts are one, wherever they stand.
    """
    members = [model.order[sum(counts[:index]) : sum(counts[: index + 1])] for index in range(len(counts))]
    pools: dict[tuple[str, ...], list[int]] = {}
    moe = mixture.by_modality(model.names)
    for index, names in enumerate(members):
        block = mixture.up.block_of(names[0]) if names[0] in moe else None
        pools.setdefault(names if block is None else block.modalities, []).append(index)
    return tuple(
        Unit(
            members=tuple(members[piece] for piece in pieces),
            pieces=tuple(pieces),
            moe=moe.get(members[pieces[0]][0]),
        )
        for pieces in pools.values()
    )


def counts_within(body: FeedForward | Mixture, model: Model) -> tuple[int, ...]:
    """How many modalities each piece holds within a feed-forward of a stream in one: as many as all its groups serve
    together.
    """
    counts = {tuple(count for _, count in leaf.runs(model.order)) for leaf in body.leaves()}
    return (1,) * len(model.order) if len(counts) > 1 else counts.pop()
