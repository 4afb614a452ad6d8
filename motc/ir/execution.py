"""How each strategy runs a model: one object each, asked by whoever would otherwise ask for its name.

A strategy says how modalities are told apart; what a model means does not depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

Strategy = Literal["sorted", "reference", "grouped", "blend"]
Products = Literal["runs", "copies", "groups"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutBlock:
    """The building block that makes a layout, and the type of what it makes."""

    function: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What is done to tokens of several modalities, and the building blocks of generated models that do it.

    `sorts`: tokens are sorted by modality; those of a plan are not, where nothing in the model needs it.
    `products`: there is a matrix product for each run of tokens with a copy, for each copy, or for each group.
    `pieces_are_whole`: each piece of a tensor has all its tokens, most of which are not used.
    `gathers_by_masks`: each copy gathers its tokens by a boolean mask, and scatters what it makes of them.
    `rows_are_documents`: a row of attention is one document. `heads_in_pieces`: a head works on the states before its
    own targets alone.
    `has_experts`: mixtures of experts can be run.

    `cut` makes pieces of a tensor, for the copies of a group; `join` makes one of them again. `by_tower` is the class
    that holds copies. `layouts` are of tokens that are sorted, and of tokens that are not. `reads`: making a layout
    reads from the device. `compiles`: the model can be compiled. `told` is what a reader should know.
    """

    sorts: bool
    pieces_are_whole: bool
    products: Products
    gathers_by_masks: bool
    rows_are_documents: bool
    heads_in_pieces: bool
    has_experts: bool
    cut: str
    join: str
    by_tower: str
    layouts: tuple[LayoutBlock, LayoutBlock]
    reads: bool
    compiles: bool
    told: str

    @property
    def groups_copies(self) -> bool:
        """Whether all copies of a group are one product. They are of one shape then, and no piece stays by itself."""
        return self.products == "groups"

    @property
    def layout(self) -> str:
        """The building block that makes a layout."""
        return self._layout.function

    @property
    def layout_type(self) -> str:
        """The type of layouts."""
        return self._layout.type

    @property
    def _layout(self) -> LayoutBlock:
        of_sorted, of_others = self.layouts
        return of_sorted if self.sorts else of_others


def execution(strategy: Strategy) -> Execution:
    """How a strategy runs a model."""
    match strategy:
        case "sorted":
            return SORTED
        case "grouped":
            return GROUPED
        case "blend":
            return BLEND
        case "reference":
            return REFERENCE
        case _:
            assert_never(strategy)


SORTED = Execution(
    sorts=True,
    pieces_are_whole=False,
    products="runs",
    gathers_by_masks=False,
    rows_are_documents=True,
    heads_in_pieces=True,
    has_experts=True,
    cut="split",
    join="merge",
    by_tower="ByTower",
    layouts=(
        LayoutBlock(function="sorted_layout", type="SortedLayout"),
        LayoutBlock(function="document_layout", type="SlotLayout"),
    ),
    reads=True,
    compiles=True,
    told="Tokens are sorted by modality, so that a tower works on a slice; attention has them in rows.",
)

GROUPED = Execution(
    sorts=True,
    pieces_are_whole=False,
    products="groups",
    gathers_by_masks=False,
    rows_are_documents=False,
    heads_in_pieces=False,
    has_experts=False,
    cut="group",
    join="ungroup",
    by_tower="GroupedByTower",
    layouts=(
        LayoutBlock(function="grouped_layout", type="GroupedLayout"),
        LayoutBlock(function="compact_layout", type="SlotLayout"),
    ),
    reads=False,
    compiles=True,
    told="Tokens are sorted by modality, and all towers work in one grouped matrix product.",
)

BLEND = Execution(
    sorts=False,
    pieces_are_whole=True,
    products="copies",
    gathers_by_masks=False,
    rows_are_documents=False,
    heads_in_pieces=False,
    has_experts=False,
    cut="branch",
    join="choose",
    by_tower="ByTower",
    layouts=(LayoutBlock(function="compact_layout", type="SlotLayout"),) * 2,
    reads=False,
    compiles=True,
    told="Every tower works on every token, and then one is chosen: shapes do not depend on data.",
)

REFERENCE = Execution(
    sorts=False,
    pieces_are_whole=False,
    products="copies",
    gathers_by_masks=True,
    rows_are_documents=False,
    heads_in_pieces=False,
    has_experts=True,
    cut="select",
    join="put_back",
    by_tower="ByTower",
    layouts=(LayoutBlock(function="batch_layout", type="SlotLayout"),) * 2,
    reads=True,
    compiles=False,
    told="Tokens go to their towers by boolean masks: the plain meaning, for checking against.",
)
