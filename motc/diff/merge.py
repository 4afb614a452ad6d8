"""Edits of neighbouring layer ranges put together, and those of all layers with those outside the layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from motc.diff.edit import Edit

Key = tuple[str, str, str, str, tuple[str, ...]]


def key_of(edit: Edit) -> Key:
    """What two edits must have in common to be one in more layers."""
    return (edit.kind, edit.subject, edit.before, edit.after, edit.modalities)


def add_flops(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """The sum by modality."""
    return {name: one.get(name, 0) + other.get(name, 0) for name in one | other}


def add(one: Edit, other: Edit, layers: tuple[int, int] | None) -> Edit:
    """One edit that concerns `layers` and adds what both add."""
    return replace(
        one,
        layers=layers,
        parameters=one.parameters + other.parameters,
        flops=add_flops(one.flops, other.flops),
    )


def merge_ranges(edits: Iterable[Edit]) -> list[Edit]:
    """Edits of adjacent layer ranges that say the same become one; `edits` come in the order of the layers."""
    merged: list[Edit] = []
    latest: dict[Key, int] = {}
    for edit in edits:
        assert edit.layers is not None
        index = latest.get(key_of(edit))
        before = None if index is None else merged[index].layers
        if index is not None and before is not None and before[1] + 1 == edit.layers[0]:
            merged[index] = add(merged[index], edit, (before[0], edit.layers[1]))
        else:
            latest[key_of(edit)] = len(merged)
            merged.append(edit)
    return merged


def with_outer(in_layers: Iterable[Edit], outside: Iterable[Edit], layers: int) -> list[Edit]:
    """Attribute edits of the layers and of what is outside them.

    One that concerns all layers becomes one of the whole model, together with the same change outside the layers.
    """
    rest = {key_of(edit): edit for edit in outside}
    edits = []
    for edit in in_layers:
        if edit.layers == (0, layers - 1):
            end = rest.pop(key_of(edit), None)
            edits.append(replace(edit, layers=None) if end is None else add(edit, end, None))
        else:
            edits.append(edit)
    return [*edits, *rest.values()]
