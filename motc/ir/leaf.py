"""Parameter groups.

Every parameter group is a `Leaf`: a path and one `Block` per block of its partition. A modality may be missing from a
leaf (an FFN without a gate, a tower without qk-norm); every modality of a leaf is in exactly one of its blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

from motc.ir.condition import Part
from motc.ir.operators import Modulation, Norm, Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One copy of a leaf's parameters and the modalities that use it.

    `name` is its part of the parameter names: a tower's, or the modalities joined by `_`; empty if one serves all.
    """

    name: str
    modalities: tuple[str, ...]
    operator: Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A parameter group, such as `attention.q`, `ffn.norm` or `embedding`."""

    path: str
    blocks: tuple[Block, ...]

    @property
    def is_norm(self) -> bool:
        """Whether it norms what it is applied to."""
        return isinstance(self.blocks[0].operator, Norm)

    def modulates(self, *parts: Part) -> bool:
        """Whether some copy makes one of these parts of a condition."""
        operators = [block.operator for block in self.blocks]
        return any(isinstance(each, Modulation) and set(parts) & set(each.parts) for each in operators)

    def block_of(self, modality: str) -> Block | None:
        """The block a modality uses, or None where this leaf does not concern it."""
        return next((block for block in self.blocks if modality in block.modalities), None)

    def runs(self, order: tuple[str, ...]) -> tuple[tuple[Block | None, int], ...]:
        """The blocks met by modalities in this order, each with how many follow one another; None: not concerned."""
        block_by_modality = {name: block for block in self.blocks for name in block.modalities}
        runs: list[tuple[Block | None, int]] = []
        for name in order:
            block = block_by_modality.get(name)
            if runs and runs[-1][0] == block:
                runs[-1] = (block, runs[-1][1] + 1)
            else:
                runs.append((block, 1))
        return tuple(runs)

    def partition(self) -> tuple[tuple[str, ...], ...]:
        """The modalities of each block."""
        return tuple(block.modalities for block in self.blocks)
