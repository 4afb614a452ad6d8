"""What an execution moves: gathers, scatters and matrix products of a layer, by masks and as planned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from motc.ir.execution import Products
from motc.ir.layer import Layer
from motc.ir.model import Model
from motc.ir.operators import Experts, Linear
from motc.ir.steps import Step
from motc.plan.views import view_gathers


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """Counts for one layer. A permutation is one gather."""

    gathers: int
    scatters: int
    products: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Permutation:
    """A permutation, what it moves, how many numbers of each token that is, and which operations need it."""

    direction: str
    value: str
    numbers: int
    forced_by: tuple[str, ...]


def naive_moves(layer: Layer, model: Model) -> Moves:
    """By boolean masks around each operation that has copies: every copy gathers its tokens and scatters its results.

    The paper's Algorithm 1 gathers once for q, k and v.
    """
    copies = [len(leaf.blocks) for leaf in layer.leaves() if len(leaf.blocks) > 1]
    gathers, scatters = _routing(layer, model)
    return Moves(
        gathers=sum(copies) + gathers, scatters=sum(copies) + scatters, products=_products(layer, model, "copies")
    )


def planned_moves(layer: Layer, model: Model) -> Moves:
    """By the layer's steps, after all passes, as the model's strategy runs them."""
    if model.execution.gathers_by_masks:
        return naive_moves(layer, model)
    gathers, scatters = _routing(layer, model)
    views = sum(view_gathers(attention.mask, model) for attention in layer.attentions)
    return Moves(
        gathers=sum(step.permutes for step in layer.steps) + views + gathers,
        scatters=scatters,
        products=_products(layer, model, model.execution.products),
    )


def permutations(layer: Layer) -> tuple[Permutation, ...]:
    """The layer's permutations, in the order they run."""
    return tuple(_permutation(step) for step in layer.steps if step.permutes)


def _permutation(step: Step) -> Permutation:
    direction = "to sorted order" if step.writes.order == "sorted" else "to attention's rows"
    return Permutation(direction=direction, value=step.writes.name, numbers=step.numbers, forced_by=step.forced_by)


def _routing(layer: Layer, model: Model) -> tuple[int, int]:
    """The gathers and scatters of experts: their tokens are gathered for each router, and so are results by top-k; by
    expert choice, where a token is in any number of pairs, results are added by a scatter.
    """
    gathers = scatters = 0
    for mixture in layer.mixtures:
        moe = mixture.by_modality(model.names)
        for block in mixture.router.blocks:
            scattered = moe[block.modalities[0]].routing == "expert_choice"
            gathers += 1 if scattered else 2
            scatters += scattered
    return gathers, scatters


def _products(layer: Layer, model: Model, products: Products) -> int:
    """Matrix products with weights: one for each run of tokens that a copy serves, for each copy, or for each group."""
    linear = [leaf for leaf in layer.leaves() if isinstance(leaf.blocks[0].operator, Linear | Experts)]
    match products:
        case "runs":
            return sum(sum(block is not None for block, _ in leaf.runs(model.order)) for leaf in linear)
        case "copies":
            return sum(len(leaf.blocks) for leaf in linear)
        case "groups":
            return len(linear)
        case _:
            assert_never(products)
