"""Parameter groups as rows of copies, of one model or of two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from motc.ir.leaf import Block, Leaf
from motc.ir.operators import Experts, Modulation, Norm, Sinks, TanhGate
from motc.report.scene import Cell, Names, Place, Row, Status
from motc.report.words import held, short


@dataclass(frozen=True, slots=True)
class Change:
    """A group before and after; of one model both are the same, and None where there is none."""

    before: Leaf | None
    after: Leaf | None

    @property
    def path(self) -> str:
        leaf = self.after or self.before
        assert leaf is not None
        return leaf.path


def changes(before: Iterable[Leaf] | None, after: Iterable[Leaf]) -> list[Change]:
    """The groups of one model, or of two by path."""
    return [Change(leaf, leaf) for leaf in after] if before is None else paired(before, after)


def paired(before: Iterable[Leaf], after: Iterable[Leaf]) -> list[Change]:
    """The groups of two models by path, in the order of the later one; what only the earlier has comes where it was."""
    old, new = {leaf.path: leaf for leaf in before}, {leaf.path: leaf for leaf in after}
    order = list(new)
    for place, path in enumerate(old):
        if path not in new:
            following = next((each for each in list(old)[place:] if each in order), None)
            order.insert(len(order) if following is None else order.index(following), path)
    return [Change(old.get(path), new.get(path)) for path in order]


def renamed(leaf: Leaf, names: Mapping[str, str]) -> Leaf:
    """The leaf, its modalities called as `names` has it."""
    blocks = (replace(b, modalities=tuple(names.get(name, name) for name in b.modalities)) for b in leaf.blocks)
    return replace(leaf, blocks=tuple(blocks))


@dataclass(frozen=True, slots=True, kw_only=True)
class CellMaker:
    """Makes cells of one place.

    `common` are the modalities that both models have; `experts` how many a modality has there, and how many of them a
    token goes to.
    """

    place: Place
    common: Names
    is_diff: bool
    experts: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def rows(self, changes: Sequence[Change]) -> list[Row]:
        """Rows of these groups: those that share alike stand in one row, and those that concern others do."""
        rows: list[Row] = []
        alike: dict[tuple[tuple[Names, ...], tuple[Names, ...], bool, str], list[list[Cell]]] = {}
        for change in changes:
            cells = self.cells(change)
            blocks = tuple(cell.modalities for cell in cells)
            was, thin = self._was(change), _is_thin(change)
            alone = change.path if thin and any(len(block) > 1 for block in blocks) else ""  # no frame has room there
            alike.setdefault((blocks, was, thin, alone), []).append(cells)
        for (_, was, thin, _), groups in alike.items():
            by_block = [cell for copies in zip(*groups, strict=True) for cell in copies]
            row = Row(cells=tuple(by_block), is_thin=thin, was=was)
            last = rows[-1] if rows else None
            if last and last.is_thin == thin and not (was or last.was) and not _meet(last, row):
                rows[-1] = replace(last, cells=(*last.cells, *row.cells))
            else:
                rows.append(row)
        return rows

    def cells(self, change: Change) -> list[Cell]:
        """The copies of a group, with what became of each; those that went come last."""
        before, after = change.before, change.after
        if not self.is_diff or before is None or after is None:
            leaf = after or before
            assert leaf is not None
            status: Status = "same" if not self.is_diff else "added" if before is None else "removed"
            return [self._cell(leaf, block, status) for block in leaf.blocks]
        old = {self._common(block): block for block in before.blocks}
        cells, met = [], set()
        for block in after.blocks:
            here = self._common(block)
            match = old.get(here)
            if not here:
                cells.append(self._cell(after, block, "added"))
            elif match is None or _differ(match, block):
                cells.append(self._cell(after, block, "changed", before))
            else:
                cells.append(self._cell(after, block, "same"))
            met |= set(block.modalities)
        for block in before.blocks:
            if not met.intersection(block.modalities):
                cells.append(self._cell(before, block, "removed"))
        return cells

    def _was(self, change: Change) -> tuple[Names, ...]:
        """The blocks of before, if those of after are others among the modalities that both models have."""
        if not self.is_diff or change.before is None or change.after is None:
            return ()
        old, new = (
            {here for block in leaf.blocks if (here := self._common(block))} for leaf in (change.before, change.after)
        )
        return change.before.partition() if old != new else ()

    def _common(self, block: Block) -> Names:
        return tuple(name for name in block.modalities if name in self.common)

    def _cell(self, leaf: Leaf, block: Block, status: Status, was: Leaf | None = None) -> Cell:
        operator, path = block.operator, leaf.path
        gone = "-" if status == "removed" else ""
        return Cell(
            key=f"{self.place.letter}/{gone}{path}/{block.name or 'all'}",
            path=path,
            label=path.partition(".")[2] or path,
            told=held(operator) if operator.parameters == 0 else f"{short(operator.parameters)}",
            leaf=leaf,
            block=block,
            was=was,
            modalities=block.modalities,
            place=self.place,
            status=status,
            experts=self.experts.get(block.modalities[0]) if path == "ffn.router" else None,
            stacked=isinstance(operator, Experts),
        )


def _differ(one: Block, other: Block) -> bool:
    return one.operator != other.operator


def _is_thin(change: Change) -> bool:
    """Whether a group is small beside matrices: norms, gates of a number, sinks."""
    leaf = change.after or change.before
    return leaf is not None and isinstance(leaf.blocks[0].operator, Norm | TanhGate | Sinks | Modulation)


def _meet(one: Row, other: Row) -> bool:
    """Whether two rows concern a modality that both have."""
    first, second = ({name for cell in row.cells for name in cell.modalities} for row in (one, other))
    return bool(first & second)
