"""The statements of `untie`: for every group and layer, the partition that holds there."""

from __future__ import annotations

from dataclasses import dataclass

from motc.ir.inventory import LAYER_PATHS, OUTER_PATHS, SECTIONS
from motc.ir.partition import Partition
from motc.lower.by_layer import check_layers
from motc.lower.selectors import select
from motc.schema import Checked
from motc.schema.spec import UntieSpec
from motc.schema.values import LayerNumbers
from motc.source import Diagnostic
from motc.source.diagnostic import MOST_TOLD
from motc.source.nearest import suggestion


@dataclass(frozen=True, slots=True)
class Untied:
    """The partition of every group: of the outer ones by path, of those in layers by layer."""

    outer: dict[str, Partition]
    layers: tuple[tuple[Partition, ...], ...]  # of each layer, in the order of LAYER_PATHS


def resolve_untie(
    checked: Checked, towers: Partition, present: frozenset[str], errors: list[Diagnostic], *, dense: bool
) -> Untied:
    """Apply the statements in order; later ones override earlier ones for the groups and layers they name.

    With `dense`, statements are checked, but only those about embedding and head hold. Appends to `errors`.
    """
    spec = checked.spec
    partitions = _Partitions(checked, towers, errors)
    one = partitions.one
    outer = dict.fromkeys(OUTER_PATHS, one)
    painted = {path: [one] * spec.layers for path in LAYER_PATHS}
    selectors = _Selectors(checked, present, errors)
    for index, statement in enumerate(spec.untie):
        partition = towers if statement.as_ is None else partitions.of(index, statement.as_)
        paths = selectors.paths(index, statement)
        layers = statement.layers or LayerNumbers(0, spec.layers - 1)
        if not check_layers(checked, ("untie", index, "layers"), layers, errors):
            continue
        if statement.layers and paths and all(path in OUTER_PATHS for path in paths):
            message = f"{paths[0]} is outside the layers, so `in layers` cannot apply to it"
            span = checked.span("untie", index, "layers")
            errors.append(Diagnostic(code="MOT042", message=message, span=span, help="leave the layers out"))
        if partition is None:
            continue
        for path in paths:
            if path in painted and not dense:
                painted[path][layers.first : layers.last + 1 : layers.step] = [partition] * len(layers.numbers)
            elif path in outer and statement.layers is None and not (dense and path in SECTIONS["norm"]):
                outer[path] = partition
    return Untied(outer, tuple(zip(*painted.values(), strict=True)))


class _Selectors:
    """The groups that selectors mean, each selector looked up once."""

    def __init__(self, checked: Checked, present: frozenset[str], errors: list[Diagnostic]) -> None:
        self.checked = checked
        self.present = present
        self.errors = errors
        self.chosen: dict[str, tuple[str, ...]] = {}

    def paths(self, index: int, statement: UntieSpec) -> list[str]:
        """The paths of a statement's groups; what matches nothing is told."""
        paths: list[str] = []
        for position, selector in enumerate(statement.groups):
            if selector not in self.chosen:
                span = self.checked.span("untie", index, "groups", position)
                brief = len(self.errors) >= MOST_TOLD  # counted, and not told
                chosen = select(selector, self.present, span, self.checked.spec, brief)
                if isinstance(chosen, Diagnostic):
                    self.errors.append(chosen)
                    continue
                self.chosen[selector] = chosen
            paths += self.chosen[selector]
        return paths


class _Partitions:
    """The partitions that statements say, one object for each."""

    def __init__(self, checked: Checked, towers: Partition, errors: list[Diagnostic]) -> None:
        self.checked = checked
        self.errors = errors
        self.universe = frozenset(towers.universe)
        self.one = Partition.one(towers.universe)
        self.towers = self.one if towers == self.one else towers
        self.known = {partition: partition for partition in (self.one, self.towers)}

    def of(self, index: int, blocks: list[list[str]] | None) -> Partition | None:
        """The partition of a statement, the towers' where it says none; None where it is told what is wrong."""
        if blocks is None:
            return self.towers
        before = len(self.errors)
        seen: set[str] = set()
        for row, block in enumerate(blocks):
            if not block:
                self.tell("MOT043", "a block is empty", "name its modalities", index, row)
            for column, name in enumerate(block):
                if name not in self.universe:
                    way_out = suggestion(name, self.towers.universe, f"modalities: {', '.join(self.towers.universe)}")
                    self.tell("MOT044", f"no modality `{name}`", way_out, index, row, column)
                elif name in seen:
                    message = f"`{name}` is in two blocks; blocks may not overlap"
                    self.tell("MOT043", message, "keep it in one", index, row, column)
                seen.add(name)
        missing = [name for name in self.towers.universe if name not in seen]
        if missing and seen <= self.universe:  # else the one that is missing is most likely the one mistyped
            message = f"the partition does not cover {', '.join(missing)}"
            self.tell("MOT043", message, f"add {{{missing[0]}}} or put it in a block", index)
        if len(self.errors) > before:
            return None
        partition = Partition.of(self.towers.universe, blocks)
        return self.known.setdefault(partition, partition)

    def tell(self, code: str, message: str, way_out: str, index: int, *place: int) -> None:
        span = self.checked.span("untie", index, "as", *place)
        self.errors.append(Diagnostic(code=code, message=message, span=span, help=way_out))
