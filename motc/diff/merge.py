"""Edits of neighbouring layer ranges put together, and those of all layers with those outside the layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import reduce
from itertools import pairwise

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


def in_steps(edits: Iterable[Edit]) -> list[Edit]:
    """Edits that say the same of single layers, three or more of them as far apart from each other, become one."""
    alike: dict[Key, list[Edit]] = {}
    every = list(edits)
    for edit in every:
        if edit.layers is not None and edit.layers[0] == edit.layers[1]:
            alike.setdefault(key_of(edit), []).append(edit)
    merged: dict[Key, Edit] = {}
    for key, single in alike.items():
        places = [edit.layers[0] for edit in single if edit.layers is not None]
        steps = {after - before for before, after in pairwise(places)}
        if len(places) > 2 and len(steps) == 1:
            (step,) = steps
            whole = reduce(lambda one, other: add(one, other, (places[0], places[-1])), single)
            merged[key] = replace(whole, step=step)
    firsts = {id(single[0]): merged[key] for key, single in alike.items() if key in merged}
    others = {id(edit) for key in merged for edit in alike[key][1:]}
    return [firsts.get(id(edit), edit) for edit in every if id(edit) not in others]


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
