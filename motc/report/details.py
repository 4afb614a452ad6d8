"""What is told of a copy that is pointed at: all that is known of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from motc.cost.flops import head_flops
from motc.ir.names import parameter_prefix
from motc.report.generated import Made, MadeBy
from motc.report.said import Said, said_of
from motc.report.scene import Cell, Scene
from motc.report.subject import Subject
from motc.report.words import braces, held, ranges


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """A copy: the FLOPs of a token in one layer, where a spec says it, and where the generated model makes it."""

    cell: Cell
    flops: int
    said: tuple[Said, ...]
    made: Made | None

    @property
    def parameters(self) -> int:
        """In one layer."""
        return self.cell.block.operator.parameters

    @property
    def layers(self) -> str:
        """`0..3`; nothing outside the layers."""
        return ranges(self.cell.place.runs)

    def rows(self) -> dict[str, str | list[str]]:
        """What the page shows, by its labels."""
        cell, count = self.cell, self.cell.place.count
        inside = cell.place.runs
        before = ""
        if cell.was is not None:
            was = dict.fromkeys(held(block.operator) for block in cell.was.blocks)
            parameters = sum(block.operator.parameters for block in cell.was.blocks)
            before = f"{braces(cell.was.partition())} of {', '.join(was)}: {parameters:,} parameters in a layer"
        rows: dict[str, str | list[str]] = {
            "copy of": ", ".join(cell.modalities),
            "partition": braces(cell.leaf.partition()),
            "before": before,
            "layers": self.layers or "outside the layers",
            "holds": held(cell.block.operator),
            "shapes": [
                f"{name} [{', '.join(map(str, shape))}]" for name, shape in cell.block.operator.shapes().items()
            ],
            "parameters": _times(self.parameters, count),
            "FLOPs a token": _times(self.flops, count),
            "name": ("layers.*." if inside else "") + parameter_prefix(cell.leaf, cell.block, None),
        }
        return {label: value for label, value in rows.items() if value}


def details(scene: Scene, after: Subject, before: Subject | None = None) -> Iterator[Detail]:
    """All copies of a drawing, from below to above."""
    made = MadeBy(after.model, after.text)
    for cell in scene.cells():
        if cell.again:
            continue
        gone = cell.status == "removed" and before is not None
        subject = before if gone and before is not None else after
        yield Detail(
            cell=cell,
            flops=_flops(cell, subject),
            said=said_of(subject.checked, cell.path, cell.modalities, cell.place.layers, dense=subject.dense),
            made=None if gone else made.find(cell.path, cell.place.new),
        )


def _flops(cell: Cell, subject: Subject) -> int:
    """Of a token; a table that is the head too is paid for there."""
    if cell.path == "embedding" and subject.model.head is None:
        named = next((name for name in cell.modalities if name in subject.model.names), None)
        return 0 if named is None else head_flops(subject.model, named)
    return cell.block.operator.flops


def _times(number: int, count: int) -> str:
    """`196,608 = 4 × 49,152`."""
    return f"{number * count:,} = {count} × {number:,}" if count > 1 and number else f"{number:,}"
