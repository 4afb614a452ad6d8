"""Edits of the modalities themselves: renamed, reordered, gone, added."""

from __future__ import annotations

from collections.abc import Iterator

from motc.diff.edit import Edit, layer_range
from motc.diff.facts import OuterFacts, Stretch
from motc.diff.merge import add_flops
from motc.diff.partitions import words_for
from motc.ir.model import Model

Ranged = tuple[tuple[int, int] | None, Stretch]


def renames(a: Model, b: Model) -> dict[str, str]:
    """Which modality of `a` is now called what: as many on both sides, and the two at the same place (their id)."""
    old, new = ([modality.name for modality in model.modalities] for model in (a, b))
    if len(old) != len(new):
        return {}
    return {was: now for was, now in zip(old, new, strict=True) if was not in new and now not in old}


def name_edits(a: Model, b: Model, renamed: dict[str, str]) -> Iterator[Edit]:
    """Renames, and another order of the same modalities, which changes their ids."""
    for was, now in renamed.items():
        yield Edit(kind="~", subject="modality", before=was, after=now)
    old = [renamed.get(modality.name, modality.name) for modality in a.modalities]
    new = [modality.name for modality in b.modalities]
    before, after = [name for name in old if name in new], [name for name in new if name in old]
    if before != after:
        yield Edit(kind="~", subject="order of modalities", before=" ".join(before), after=" ".join(after))


def removed(stretches: list[Ranged], names: tuple[str, ...], kept: tuple[str, ...]) -> Iterator[Edit]:
    """An edit for each of `names` that goes, the last first, until only `kept` is left: the reverse of `added`."""
    for index, name in reversed(list(enumerate(names))):
        present = (*kept, *names[: index + 1])
        yield _modality_edit("-", name, [(layers, stretch.only(present)) for layers, stretch in stretches])


def added(stretches: list[Ranged], names: tuple[str, ...], kept: tuple[str, ...]) -> Iterator[Edit]:
    """An edit for each of `names` that comes to `kept`, one after the other, until all of `stretches` is there."""
    for index, name in enumerate(names):
        present = (*kept, *names[: index + 1])
        yield _modality_edit("+", name, [(layers, stretch.only(present)) for layers, stretch in stretches])


def _modality_edit(kind: str, name: str, stretches: list[Ranged]) -> Edit:
    """What `name` adds to stretches that hold it."""
    parameters, flops = 0, {name: 0}
    for _, stretch in stretches:
        others = tuple(other for other in stretch.attributes if other != name)
        parameters += stretch.parameters() - stretch.only(others).parameters()
        flops = add_flops(flops, {name: stretch.flops()[name]})
    place = _place(name, stretches)
    if kind == "+":
        return Edit(kind="+", subject=f"modality {name}", after=place, parameters=parameters, flops=flops)
    lost = {modality: -amount for modality, amount in flops.items()}
    return Edit(kind="-", subject=f"modality {name}", before=place, parameters=-parameters, flops=lost)


def _place(name: str, stretches: list[Ranged]) -> str:
    """The vocabulary of a modality and what it shares with whom: `shares ffn with image in layers 0..3`."""
    told: list[tuple[str, tuple[int, int] | None]] = []
    vocab = ""
    for layers, stretch in stretches:
        attributes = stretch.attributes[name]
        if isinstance(attributes, OuterFacts):
            continuous = "latent" if attributes.features is None else "features"
            vocab = continuous if attributes.vocab is None else f"vocab {attributes.vocab[0]}"
        for text in _shared(name, stretch):
            index = next((i for i, (said, where) in enumerate(told) if said == text and _touch(where, layers)), None)
            if index is None:
                told.append((text, layers))
            else:
                told[index] = (text, _join(told[index][1], layers))
    shares = [text if where is None else f"{text} in {layer_range(*where)}" for text, where in told]
    return ", ".join((vocab, *(shares or ["all parameters its own"])))


def _shared(name: str, stretch: Stretch) -> list[str]:
    by_mates: dict[tuple[str, ...], list[str]] = {}
    for path, blocks in stretch.blocks.items():
        block = next((block for block in blocks if name in block), ())
        mates = tuple(other for other in stretch.attributes if other in block and other != name)
        if mates:
            by_mates.setdefault(mates, []).append(path)
    present = tuple(stretch.blocks)
    return [
        f"shares {' '.join(words_for(tuple(paths), present))} with {' '.join(mates)}"
        for mates, paths in by_mates.items()
    ]


def _touch(one: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    return one is not None and other is not None and one[1] + 1 == other[0]


def _join(one: tuple[int, int] | None, other: tuple[int, int] | None) -> tuple[int, int] | None:
    return None if one is None or other is None else (one[0], other[1])
