"""Which targets the loss leaves out because the token before them sees them: a question of two neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from motc.ir.mask import Mask, sees_next
from motc.ir.model import Model

Pairs = tuple[tuple[bool, ...], ...]


class SeenTargets(NamedTuple):
    """Pairs [before][target] of modalities, in the order of their ids; empty where there are none.

    Of those in `always` the target is left out. `in_prefix` has for each prefix that some layers' mask has its
    modalities, and the pairs whose target is left out where both are in that prefix of their document.
    """

    always: Pairs
    in_prefix: tuple[tuple[tuple[str, ...], Pairs], ...]


def seen_targets(model: Model) -> SeenTargets:
    """The pairs of which the second token is no target."""
    masks = model.masks

    def pairs(is_such: Callable[[str, str], bool]) -> Pairs:
        table = tuple(
            tuple(after.loss.seen_targets is False and is_such(before.name, after.name) for after in model.modalities)
            for before in model.modalities
        )
        return table if any(any(row) for row in table) else ()

    def always(before: str, after: str) -> bool:
        return sees_next(masks, before, after) == "always"

    def in_prefix(mask: Mask) -> Pairs:
        return pairs(lambda *pair: mask.sees_next(*pair) == "sometimes" and not always(*pair))

    by_prefix = (((*mask.prefix, *mask.absent, *mask.readers), in_prefix(mask)) for mask in masks)
    # Masks that differ in their windows alone say the same of neighbours.
    return SeenTargets(pairs(always), tuple(dict.fromkeys((prefix, table) for prefix, table in by_prefix if table)))
