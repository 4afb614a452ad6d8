"""How many parameters a model has: in all, for a token of a modality, by group; counted by segment, never by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from motc.cost.flops import flops_per_token
from motc.ir.leaf import Leaf
from motc.ir.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a model costs.

    `active` is what one token of a modality passes through: its blocks in every layer (of experts, as many as a token
    goes to on average), its whole embedding table, its final norm and its head; a tied table counts once.
    `groups` adds a leaf's blocks over all layers (`attention.q`), in the order of the forward;
    `blocks` adds the leaves by the block's name, those that all share under "".
    `flops_per_token` is as in `motc.cost.flops`.
    """

    parameters: int
    active: dict[str, int]
    groups: dict[str, int]
    blocks: dict[str, int]
    flops_per_token: dict[str, int]

    def to_json(self) -> dict[str, object]:
        """The keys that `motc show --json` promises, and the groups and blocks."""
        return {
            "parameters": {
                "total": self.parameters,
                "active": dict(self.active),
                "groups": dict(self.groups),
                "blocks": dict(self.blocks),
            },
            "flops_per_token": dict(self.flops_per_token),
        }


def leaf_parameters(leaf: Leaf) -> int:
    """The parameters of all blocks of one leaf, in one layer."""
    return sum(block.operator.parameters for block in leaf.blocks)


def leaves_with_counts(model: Model) -> Iterator[tuple[Leaf, int]]:
    """Every leaf, once for each kind of layer, and how many layers have it so; in the order of the forward."""
    yield from ((leaf, 1) for leaf in model.leaves_before())
    for layer, count in model.kinds:
        yield from ((leaf, count) for leaf in layer.leaves())
    yield from ((leaf, 1) for leaf in model.leaves_after())


def total_parameters(model: Model) -> int:
    """All parameters of the model; a tied embedding counts once."""
    return sum(leaf_parameters(leaf) * count for leaf, count in leaves_with_counts(model))


def cost(model: Model) -> Cost:
    """Count everything; the time depends on the number of kinds of layers, not of layers."""
    active = {modality.name: 0 for modality in model.modalities}
    groups: dict[str, int] = {}
    blocks: dict[str, int] = {}
    for leaf, count in leaves_with_counts(model):
        for block in leaf.blocks:
            parameters, of_a_token = block.operator.parameters * count, block.operator.active_parameters * count
            groups[leaf.path] = groups.get(leaf.path, 0) + parameters
            blocks[block.name] = blocks.get(block.name, 0) + parameters
            for modality in block.modalities:
                active[modality] += of_a_token
    return Cost(
        parameters=sum(groups.values()),
        active=active,
        groups=groups,
        blocks=blocks,
        flops_per_token=flops_per_token(model),
    )
