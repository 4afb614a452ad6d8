"""What applying a parameter group needs and gives: which order of tokens, and how many numbers."""

from __future__ import annotations

from typing import assert_never

from motc.ir.leaf import Leaf
from motc.ir.model import Model
from motc.ir.operators import (
    Condition,
    Embedding,
    Experts,
    LatentEnds,
    Linear,
    Modulation,
    Norm,
    Operator,
    Projector,
    Sinks,
    TanhGate,
)


def needs_order(leaf: Leaf, model: Model) -> bool:
    """Whether a leaf's tokens must be told apart by where they stand."""
    serves_all = len(leaf.blocks) == 1 and not leaf.blocks[0].name
    return not serves_all and not chosen_by_place(leaf, model)


def chosen_by_place(leaf: Leaf, model: Model) -> bool:
    """Whether each token, wherever it stands, can have what is its copy's of what is made for all of them.

    So it is of sinks and modulations, and of one norm for all modalities, or all of whose states something is read, but
    for its weights.
    """
    operators = {block.operator for block in leaf.blocks}
    if any(isinstance(operator, Sinks | Modulation) for operator in operators):
        return True
    lacking = [modality for modality in model.modalities if leaf.block_of(modality.name) is None]
    complete = not lacking or (leaf.path == "final_norm" and set(lacking) <= set(model.feature_modalities()))
    return complete and len(operators) == 1 and leaf.is_norm


def numbers_written(operator: Operator) -> int | None:
    """How many numbers a token has in what an operator writes; None: as many as in what it reads."""
    match operator:
        case Linear(out_features=out_features) | Experts(out_features=out_features):
            return out_features
        case Embedding(width=width) | LatentEnds(width=width) | Projector(width=width):
            return width
        case Sinks(heads=heads):
            return heads
        case Condition(width=width) | Modulation(width=width):
            return width
        case Norm() | TanhGate():
            return None
        case _:
            assert_never(operator)
