"""How each strategy runs a model, as building blocks: one object for each, asked by whoever writes text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from motc.ir.model import Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """The building blocks by which modalities are told apart.

    `layout` makes a layout of the type `layout_type`. `cut` makes pieces of a tensor, for the copies of a group;
    `join` makes one of them again. `by_tower` is the class that holds copies. `reads` says whether making a layout
    reads from the device, `compiles` whether the model can be compiled. `told` is what a reader should know of it.
    """

    layout: str
    layout_type: str
    cut: str
    join: str
    by_tower: str
    sorts: bool
    reads: bool
    compiles: bool
    told: str


def execution(strategy: Strategy, *, sorts: bool, has_towers: bool) -> Execution:
    """How a strategy runs a model; `sorts`: whether anything in it needs tokens in sorted order."""
    match strategy:
        case "sorted" | "grouped" | "blend" | "reference" if not has_towers and not sorts:
            told = ""
        case "sorted":
            told = "Tokens are sorted by modality, so that a tower works on a slice; attention has them in rows."
        case "grouped":
            told = "Tokens are sorted by modality, and all towers work in one grouped matrix product."
        case "blend":
            told = "Every tower works on every token, and then one is chosen: shapes do not depend on data."
        case "reference":
            told = "Tokens go to their towers by boolean masks: the plain meaning, for checking against."
        case _:
            assert_never(strategy)
    layouts = {
        "sorted": ("sorted_layout", "SortedLayout") if sorts else ("document_layout", "SlotLayout"),
        "grouped": ("grouped_layout", "GroupedLayout") if sorts else ("compact_layout", "SlotLayout"),
        "blend": ("compact_layout", "SlotLayout"),
        "reference": ("batch_layout", "SlotLayout"),
    }
    pieces = {
        "sorted": ("split", "merge"),
        "grouped": ("group", "ungroup"),
        "blend": ("branch", "choose"),
        "reference": ("select", "put_back"),
    }
    layout, layout_type = layouts[strategy]
    cut, join = pieces[strategy]
    return Execution(
        layout=layout,
        layout_type=layout_type,
        cut=cut,
        join=join,
        by_tower="GroupedByTower" if strategy == "grouped" else "ByTower",
        sorts=sorts,
        reads=strategy in ("sorted", "reference"),
        compiles=strategy != "reference",
        told=told,
    )
