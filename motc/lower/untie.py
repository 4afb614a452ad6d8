"""The statements of `untie`: for every group and layer, the partition that holds there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from motc.ir.partition import Partition
from motc.lower.selectors import END_PATHS, LAYER_PATHS, select
from motc.schema import Checked
from motc.schema.spec import UntieSpec
from motc.source import Diagnostic


@dataclass(frozen=True, slots=True)
class Untied:
    """The partition of every group: of the ends by path, of the layers as runs of equal layers."""

    ends: dict[str, Partition]
    runs: tuple[tuple[int, int, tuple[Partition, ...]], ...]  # first, last, partitions in the order of LAYER_PATHS


def resolve_untie(
    checked: Checked, towers: Partition, present: frozenset[str], errors: list[Diagnostic], *, dense: bool
) -> Untied:
    """Apply the statements in order; later ones override earlier ones for the groups and layers they name.

    With `dense`, statements are checked, but only those about embedding and head hold. Appends to `errors`.
    """
    spec = checked.spec
    one = Partition.one(towers.universe)
    ends = dict.fromkeys(END_PATHS, one)
    painted = {path: [one] * spec.layers for path in LAYER_PATHS}
    for index, statement in enumerate(spec.untie):
        partition = towers if statement.as_ is None else _partition(checked, index, towers, errors)
        paths = list(_paths(checked, index, statement, present, errors))
        first, last = statement.layers or (0, spec.layers - 1)
        if not first <= last < spec.layers:
            message = f"layers {first}..{last} are not within the model's 0..{spec.layers - 1}"
            way_out = "layers count from 0 and a range includes both ends"
            span = checked.span("untie", index, "layers")
            errors.append(Diagnostic(code="MOT041", message=message, span=span, help=way_out))
            continue
        if statement.layers and paths and all(path in END_PATHS for path in paths):
            message = f"{paths[0]} is outside the layers, so `in layers` cannot apply to it"
            span = checked.span("untie", index, "layers")
            errors.append(Diagnostic(code="MOT042", message=message, span=span, help="leave the layers out"))
        if partition is None:
            continue
        for path in paths:
            if path in painted and not dense:
                painted[path][first : last + 1] = [partition] * (last - first + 1)
            elif path in ends and statement.layers is None and not (dense and path == "final_norm"):
                ends[path] = partition
    return Untied(ends, tuple(_runs(list(zip(*painted.values(), strict=True)))))


def _runs(layers: list[tuple[Partition, ...]]) -> Iterator[tuple[int, int, tuple[Partition, ...]]]:
    first = 0
    for index in range(1, len(layers) + 1):
        if index == len(layers) or layers[index] != layers[first]:
            yield first, index - 1, layers[first]
            first = index


def _paths(
    checked: Checked, index: int, statement: UntieSpec, present: frozenset[str], errors: list[Diagnostic]
) -> Iterable[str]:
    for position, selector in enumerate(statement.groups):
        chosen = select(selector, present, checked.span("untie", index, "groups", position))
        if isinstance(chosen, Diagnostic):
            errors.append(chosen)
        else:
            yield from chosen


def _partition(checked: Checked, index: int, towers: Partition, errors: list[Diagnostic]) -> Partition | None:
    blocks = checked.spec.untie[index].as_ or []
    seen: set[str] = set()
    before = len(errors)
    for row, block in enumerate(blocks):
        if not block:
            span = checked.span("untie", index, "as", row)
            errors.append(Diagnostic(code="MOT043", message="a block is empty", span=span, help="name its modalities"))
        for column, name in enumerate(block):
            span = checked.span("untie", index, "as", row, column)
            if name not in towers.universe:
                way_out = f"modalities: {', '.join(towers.universe)}"
                errors.append(Diagnostic(code="MOT044", message=f"no modality `{name}`", span=span, help=way_out))
            elif name in seen:
                message = f"`{name}` is in two blocks; blocks may not overlap"
                errors.append(Diagnostic(code="MOT043", message=message, span=span, help="keep it in one"))
            seen.add(name)
    missing = [name for name in towers.universe if name not in seen]
    if missing:
        message = f"the partition does not cover {', '.join(missing)}"
        span = checked.span("untie", index, "as")
        errors.append(
            Diagnostic(code="MOT043", message=message, span=span, help=f"add {{{missing[0]}}} or put it in a block")
        )
    return Partition.of(towers.universe, blocks) if len(errors) == before else None
