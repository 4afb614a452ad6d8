"""The maps that the adaptive norms of several layers have in common: one copy of each, beside their condition."""

from __future__ import annotations

from collections.abc import Iterable

from motc.ir.condition import Modulation, SharedMaps
from motc.ir.model import Segment
from motc.schema import Checked
from motc.source import Diagnostic


def shared_maps(
    segments: Iterable[Segment], checked: Checked, errors: list[Diagnostic]
) -> dict[str, tuple[SharedMaps, ...]]:
    """By modality, the maps that layers share of its condition; layers of one name must have the same. Appends errors.

    A sublayer of that name has the same copies, of the same modalities, in each layer that has any.
    """
    copies: dict[tuple[str, str], tuple[tuple[SharedMaps, tuple[str, ...]], ...]] = {}
    for segment in segments:
        for sublayer in segment.layer.sublayers:
            here: dict[str, list[tuple[SharedMaps, tuple[str, ...]]]] = {}
            for block in sublayer.modulation.blocks if sublayer.modulation else ():
                made = block.operator
                if isinstance(made, Modulation) and made.shared is not None:
                    maps = SharedMaps(name=made.shared, role=sublayer.role, copy=block.name, modulation=made.maps())
                    here.setdefault(made.shared, []).append((maps, block.modalities))
            for name, each in here.items():
                if copies.setdefault((name, sublayer.role), tuple(each)) != tuple(each):
                    errors.append(_differs(name, sublayer.role, segment.first, checked))
    by_modality: dict[str, tuple[SharedMaps, ...]] = {}
    for each_copy in copies.values():
        for maps, _ in each_copy:
            by = maps.modulation.by
            by_modality[by] = (*by_modality.get(by, ()), maps)
    return by_modality


def _differs(name: str, role: str, layer: int, checked: Checked) -> Diagnostic:
    message = f"layer {layer} cannot share `{name}` with the layers before it: {role}.modulation differs there"
    way_out = (
        "a name is shared by layers with the same parts and widths, untied alike: give the others a name of their own"
    )
    return Diagnostic(code="MOT094", message=message, span=checked.key_span("norm", "adaptive"), help=way_out)
