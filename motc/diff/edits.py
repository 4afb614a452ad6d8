"""The differences between two models, as edits whose parameters and FLOPs add up to the whole difference.

One model is turned into the other in steps: layers and modalities that go, partitions, attributes, modalities and
layers that come. Each edit has what its step adds at that point, so nothing is counted twice or left over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from motc.diff.attributes import attribute_edits
from motc.diff.edit import Edit
from motc.diff.facts import Stretch, layer_stretch, outer_stretch
from motc.diff.merge import add_flops, in_steps, merge_ranges, with_outer
from motc.diff.modalities import Ranged, added, name_edits, removed, renames
from motc.diff.partitions import partition_edits, repartition, take_in_outer_norms
from motc.ir.inventory import SECTIONS
from motc.ir.layer import Layer
from motc.ir.model import Model


def diff(a: Model, b: Model) -> tuple[Edit, ...]:
    """What turns `a` into `b`; empty if they are the same model, whatever their names and how their specs are written.

    Layers are compared by number, up to the smaller count; the rest of the deeper model is one edit.
    """
    renamed = renames(a, b)
    old = tuple(renamed.get(modality.name, modality.name) for modality in a.modalities)
    new = tuple(modality.name for modality in b.modalities)
    common = tuple(name for name in new if name in old)
    gone, come = tuple(name for name in old if name not in new), tuple(name for name in new if name not in old)

    kinds_of_a, kinds_of_b = _kinds(a, renamed), _kinds(b, {})
    pairs = [
        (
            layers,
            replace(kinds_of_a[id(of_a)], count=_count(layers)),
            replace(kinds_of_b[id(of_b)], count=_count(layers)),
        )
        for layers, of_a, of_b in aligned(a, b)
    ]
    outer_of_a, outer_of_b = outer_stretch(a, renamed), outer_stretch(b, {})
    stretches_of_a: list[Ranged] = [*((layers, stretch) for layers, stretch, _ in pairs), (None, outer_of_a)]
    stretches_of_b: list[Ranged] = [*((layers, stretch) for layers, _, stretch in pairs), (None, outer_of_b)]

    edits = [*name_edits(a, b, renamed), *_layer_edits(a, b, renamed)]
    edits += removed(stretches_of_a, gone, common)
    edits += added(stretches_of_b, come, common)
    edits += _changes(
        [(layers, one.only(common), other.only(common)) for layers, one, other in pairs],
        outer_of_a.only(common),
        outer_of_b.only(common),
    )
    edits += _block_names([*((one, other) for _, one, other in pairs), (outer_of_a, outer_of_b)])
    return tuple(in_steps(edits))


def aligned(a: Model, b: Model) -> Iterator[tuple[tuple[int, int], Layer, Layer]]:
    """The layers both models have, in runs in which neither changes: (first, last), `a`'s layer, `b`'s layer."""
    left, right, first = 0, 0, 0
    last_common = min(a.layers, b.layers) - 1
    while first <= last_common:
        of_a, of_b = a.segments[left], b.segments[right]
        last = min(of_a.last, of_b.last, last_common)
        yield (first, last), of_a.layer, of_b.layer
        left, right, first = left + (of_a.last == last), right + (of_b.last == last), last + 1


def _kinds(model: Model, renamed: dict[str, str]) -> dict[int, Stretch]:
    """One layer of each kind as a stretch, by the layer's id: equal layers are one object."""
    return {id(layer): layer_stretch(model, layer, 1, renamed) for layer, _ in model.kinds}


def _count(layers: tuple[int, int]) -> int:
    return layers[1] - layers[0] + 1


def _changes(
    pairs: list[tuple[tuple[int, int], Stretch, Stretch]], outer_of_a: Stretch, outer_of_b: Stretch
) -> list[Edit]:
    """Partitions, then attributes, of stretches with the same modalities."""
    layers = sum(stretch.count for _, stretch, _ in pairs)
    differing = [(where, one, other) for where, one, other in pairs if one != other]
    attributes = with_outer(
        merge_ranges(
            edit
            for where, one, other in differing
            if one.attributes != other.attributes
            for edit in attribute_edits(repartition(one, other), other, where)
        ),
        attribute_edits(repartition(outer_of_a, outer_of_b), outer_of_b, None),
        layers,
    )
    partitions = take_in_outer_norms(
        merge_ranges(edit for where, one, other in differing for edit in partition_edits(one, other, where)),
        partition_edits(outer_of_a, outer_of_b, None),
        layers,
        {path for path in SECTIONS["norm"] if path in outer_of_a.blocks and path in outer_of_b.blocks},
    )
    return partitions + attributes


def _layer_edits(a: Model, b: Model, renamed: dict[str, str]) -> Iterator[Edit]:
    """The layers that only the deeper model has."""
    common = min(a.layers, b.layers)
    if a.layers == b.layers:
        return
    sign, deeper = (1, b) if b.layers > a.layers else (-1, a)
    called = renamed if deeper is a else {}
    parameters, flops = 0, dict[str, int]()
    for segment in deeper.segments:
        if segment.last >= common:
            stretch = layer_stretch(deeper, segment.layer, segment.last - max(segment.first, common) + 1, called)
            parameters += sign * stretch.parameters()
            flops = add_flops(flops, {name: sign * amount for name, amount in stretch.flops().items()})
    yield Edit(
        kind="+" if deeper is b else "-",
        subject="layers",
        before=str(a.layers),
        after=str(b.layers),
        layers=(common, deeper.layers - 1),
        parameters=parameters,
        flops=flops,
    )


def _block_names(pairs: list[tuple[Stretch, Stretch]]) -> list[Edit]:
    """Blocks of the same modalities that are called otherwise, and so their parameters: once for each pair of names."""
    renamed: dict[tuple[str, str], None] = {}
    for one, other in pairs:
        for place, name in one.names.items():
            now = other.names.get(place, "")
            if name and now and name != now:
                renamed[name, now] = None
    return [Edit(kind="~", subject="block names", before=before, after=after) for before, after in renamed]
