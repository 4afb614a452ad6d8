"""A group's blocks, once its partition is known: their parameters, names, and what disagrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from motc.ir.leaf import Block, Leaf
from motc.ir.operators import Experts, Linear, Norm, Operator, ReadMap
from motc.ir.partition import Partition
from motc.schema import Checked
from motc.schema.names import is_attribute
from motc.source import Diagnostic, Span

DIFFERENCES = {
    "count": "experts",
    "active": "experts a token",
    "in_features": "width or hidden size",
    "out_features": "width or hidden size",
    "bias": "bias",
    "kind": "norm kind",
    "eps": "eps",
    "shape": "width",
    "vocab": "vocabulary",
    "width": "width",
}


class LeafBuilder:
    """Builds leaves for one spec and remembers which disagreements have been told."""

    def __init__(self, checked: Checked, towers: Partition, tower_names: dict[tuple[str, ...], str]) -> None:
        self.checked = checked
        self.towers = towers
        self.tower_names = tower_names
        self.errors: list[Diagnostic] = []
        self._told: set[tuple[str, tuple[str, ...]]] = set()

    def of(self, checked: Checked) -> LeafBuilder:
        """The builder for the spec as it is in some layers; the two tell nothing twice."""
        other = LeafBuilder(checked, self.towers, self.tower_names)
        other.errors, other._told = self.errors, self._told
        return other

    def build(
        self, path: str, partition: Partition, operators: Mapping[str, Operator | None], *, name_by_tower: bool = True
    ) -> Leaf | None:
        """The leaf at `path`, or None where no modality has parameters there."""
        tower_names = self.tower_names if name_by_tower else {}
        kinds = set(operators.values())
        if all(isinstance(kind, Norm) and kind.is_parameterless for kind in kinds) and len(kinds) == 1:
            partition = Partition.one(partition.universe)  # copies of what has no parameters are one
        blocks = []
        for names in partition.blocks:
            owner = operators[names[0]]
            differing = next((name for name in names if operators[name] != owner), None)
            if differing is not None:
                self.disagree(path, names[0], differing, _difference(owner, operators[differing]))
            elif owner is not None:
                name = "" if len(partition.blocks) == 1 else tower_names.get(names) or "_".join(names)
                blocks.append(Block(name=name, modalities=names, operator=owner))
        self._check_names(path, blocks)
        return Leaf(path=path, blocks=tuple(blocks)) if blocks else None

    def _check_names(self, path: str, blocks: list[Block]) -> None:
        seen: dict[str, Block] = {}
        for block in blocks:
            twin = seen.setdefault(block.name, block)
            if twin is not block:
                message = f"two blocks of {path} would both be called `{block.name}`"
                self._refuse_name("MOT047", block, message)
            elif is_attribute(block.name):
                members = ", ".join(block.modalities)
                message = f"the block {{{members}}} of {path} cannot be called `{block.name}`"
                reason = "torch modules have an attribute of that name"
                self._refuse_name("MOT024", block, f"{message}: {reason}")

    def _refuse_name(self, code: str, block: Block, message: str) -> None:
        """Tell, once, that a block cannot be called as it would be."""
        if ("name", (block.name,)) in self._told:
            return
        self._told.add(("name", (block.name,)))
        span, way_out = self._block_span(block.modalities), "rename a modality, or give the block a tower with a name"
        self.errors.append(Diagnostic(code=code, message=message, span=span, help=way_out))

    def _block_span(self, names: tuple[str, ...]) -> Span:
        """Where a statement says a block of these modalities, or else where they are declared."""
        for index, statement in enumerate(self.checked.spec.untie):
            for row, block in enumerate(statement.as_ or ()):
                if set(block) == set(names):
                    return self.checked.span("untie", index, "as", row)
        return self.checked.span("modalities")

    def disagree(self, path: str, a: str, b: str, difference: str) -> None:
        """Tell, once a section, that `a` and `b` share what they need differently."""
        section = path.split(".")[0]
        key = (section, (a, b))
        if key in self._told:
            return
        self._told.add(key)
        message = f"{path} is shared by {a} and {b}, but they need different ones: {difference}"
        here, there = self._tower_span(b), self._tower_span(a)
        related = () if there == here else ((f"{a} is declared here", there),)
        if layers := [key for key in self.checked.said if key[0] == section]:  # and not what towers have there
            related = (*related, ("what these layers have otherwise", self.checked.span(*layers[0])))
        way_out = f"untie {path} between them, or give both the same"
        self.errors.append(Diagnostic(code="MOT046", message=message, span=here, help=way_out, related=related))

    def disagree_on_experts(self, one: str, names: tuple[str, ...], path: str, others: tuple[str, ...]) -> None:
        """Tell, once, that two groups of a mixture which belong together are shared by other modalities."""
        if ("experts", names) in self._told:
            return
        self._told.add(("experts", names))
        message = f"{one} serves {', '.join(names)} and {path} serves {', '.join(others)}"
        way_out = "untie a mixture of experts as a whole: `untie ffn`"
        span = self.checked.span("untie")
        self.errors.append(Diagnostic(code="MOT059", message=message, span=span, help=way_out))

    def _tower_span(self, modality: str) -> Span:
        block = self.towers.block_of(modality)
        for name, tower in self.checked.spec.towers.items():
            if set(tower.modalities) == set(block):
                return self.checked.span("towers", name)
        return self.checked.span("modalities", modality)


def _difference(one: Operator | None, other: Operator | None) -> str:
    if one is None or other is None:
        return "one of them has none"
    if isinstance(one, Experts) != isinstance(other, Experts):
        return "one of them is a mixture of experts"
    if isinstance(one, ReadMap) != isinstance(other, ReadMap):
        return "one of them maps what another tower has"
    if isinstance(one, Linear) and isinstance(other, Linear) and one.bias != other.bias:
        return "with and without a bias"
    if isinstance(one, Norm) and isinstance(other, Norm) and one.kind != other.kind:
        return f"{one.kind} and {other.kind}"
    for name in (*DIFFERENCES, *(field.name for field in fields(one))):
        left, right = getattr(one, name, None), getattr(other, name, None)
        if left != right:
            return f"{DIFFERENCES.get(name, name)} {_shown(left)} and {_shown(right)}"
    return "one of them is of another kind"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
