"""Which targets the loss leaves out because the token before them sees them: a question of two neighbours."""

from __future__ import annotations

from typing import NamedTuple

from motc.ir.mask import Often
from motc.ir.model import Model

Pairs = tuple[tuple[bool, ...], ...]


class SeenTargets(NamedTuple):
    """Pairs [before][target] of modalities, in the order of their ids; empty where there are none.

    Of those in `always` the target is left out, of those in `in_prefix` where both are in their document's prefix.
    """

    always: Pairs
    in_prefix: Pairs


def seen_targets(model: Model) -> SeenTargets:
    """The pairs of which the second token is no target."""

    def pairs(often: Often) -> Pairs:
        table = tuple(
            tuple(
                after.loss.seen_targets is False and model.sees_next(before.name, after.name) == often
                for after in model.modalities
            )
            for before in model.modalities
        )
        return table if any(any(row) for row in table) else ()

    return SeenTargets(pairs("always"), pairs("sometimes"))
