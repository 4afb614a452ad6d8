"""What a Mixture-of-Transformers' towers become: how far its copies of a parameter are apart."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import torch

from motc.ir.model import Model
from motc.ir.names import parameter_prefix
from motc.match.pairs import Pairs
from motc.match.race import System


def copies(model: Model) -> dict[str, dict[str, str]]:
    """Of each untied parameter of a layer, by its name without the block's, the names of its copies by their blocks."""
    return {name: blocks for name, blocks in _copies(model) if len(blocks) > 1}


def _copies(model: Model) -> Iterator[tuple[str, dict[str, str]]]:
    for segment in model.segments:
        for layer in range(segment.first, segment.last + 1):
            for leaf in segment.layer.leaves():
                for last in dict.fromkeys(name for block in leaf.blocks for name in block.operator.shapes()):
                    blocks = {
                        block.name: f"{parameter_prefix(leaf, block, layer)}.{last}"
                        for block in leaf.blocks
                        if last in block.operator.shapes()
                    }
                    yield f"layers.{layer}.{leaf.path}.{last}", blocks


@torch.no_grad()
def tower_distances(system: System, model: Model) -> Pairs:
    """The distance of each two copies of a parameter that are of one shape: |a - b|² / (|a|² + |b|²).

    It is 0 where they are equal, and 1 where they have nothing in common, as after independent initialisation.
    """
    parameters = dict(system.network.named_parameters())
    found: dict[str, dict[str, float]] = {}
    for name, blocks in copies(model).items():
        for (one, first), (other, second) in combinations(blocks.items(), 2):
            a, b = parameters[first].double(), parameters[second].double()
            both = float(a.square().sum() + b.square().sum()) if a.shape == b.shape else 0.0
            if both > 0:
                found.setdefault(name, {})[f"{one} {other}"] = float((a - b).square().sum()) / both
    return found
