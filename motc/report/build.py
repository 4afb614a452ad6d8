"""One model, or two, to a scene."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from motc.diff.edits import aligned
from motc.diff.modalities import renames
from motc.ir.layer import Layer
from motc.ir.leaf import Leaf
from motc.ir.model import Modality, Model
from motc.report.cells import CellMaker, Change, changes, renamed
from motc.report.layers import LayerDrawer
from motc.report.scene import Column, Names, Panel, Place, Row, Run, Scene, Status, Tower
from motc.report.words import entering, leaving

AGAIN = {"embedding": "head", "latents": "latents.decode"}
TOLD = {"embedding": "the embedding's table", "latents": "of the ends below"}

MOST_PANELS = 24
MOST_RUNS = 240
"""More kinds of layers, or runs of them, than these are not drawn one by one."""

Stretch = tuple[tuple[int, int], Layer | None, Layer | None]


def scene(after: Model, before: Model | None = None) -> Scene:
    """What is drawn of a model; or of what became of the one `before`."""
    names = {} if before is None else renames(before, after)
    old: Names = () if before is None else tuple(names.get(name, name) for name in before.names)
    common = tuple(name for name in after.names if name in old)
    columns, towers = _columns(before, after, names, old)
    maker = CellMaker(place=Place(letter="outside"), common=common, is_diff=before is not None)

    def rows(first: tuple[Leaf, ...], second: tuple[Leaf, ...]) -> tuple[Row, ...]:
        return tuple(maker.rows(changes(None if before is None else [renamed(leaf, names) for leaf in first], second)))

    panels, runs = _panels(before, after, LayerDrawer(before, after, names, common))
    return Scene(
        name=after.name,
        columns=columns,
        towers=towers,
        before=rows(() if before is None else before.leaves_before(), after.leaves_before()),
        panels=panels,
        runs=runs,
        after=(*rows(() if before is None else before.leaves_after(), after.leaves_after()), *_again(after, maker)),
        layers=max(after.layers, 0 if before is None else before.layers),
        is_diff=before is not None,
    )


def _again(model: Model, maker: CellMaker) -> Iterator[Row]:
    """What of groups before the layers comes after them too: a table that is the head, and the way back to latents."""
    tied = (
        []
        if model.head is not None or model.embedding is None
        else maker.rows([Change(model.embedding, model.embedding)])
    )
    ends = model.latents()
    rows = [*tied, *([] if ends is None else maker.rows([Change(ends, ends)]))]
    cells = tuple(
        replace(cell, again=True, label=AGAIN[cell.path], told=TOLD[cell.path]) for row in rows for cell in row.cells
    )
    if cells:
        yield Row(cells=cells, is_thin=False)


def tower_name(model: Model, block: Names) -> str:
    """What a tower is called: as its copies are, or as its modalities."""
    names = {b.name for leaf in model.leaves() for b in leaf.blocks if b.modalities == block and b.name}
    own = sorted(name for name in names if name != "_".join(block))
    return own[0] if own else " ".join(block)


def _tower(model: Model, block: Names, modalities: Names) -> Tower:
    return Tower(name=tower_name(model, block), modalities=modalities, width=model.modality(block[0]).width)


def _columns(
    before: Model | None, after: Model, names: Mapping[str, str], old: Names
) -> tuple[tuple[Column, ...], tuple[Tower, ...]]:
    """The modalities, those of a tower side by side, and the towers; those that went come last."""
    towers = [_tower(after, block, block) for block in after.towers.blocks]
    gone: dict[str, Model] = {}
    if before is not None:
        for block in before.towers.blocks:
            called = tuple(names.get(name, name) for name in block)
            left = tuple(name for name in called if name not in after.names)
            home = next((each for each in towers if set(each.modalities) & set(called)), None)
            if home is not None:  # where those that it was with are now
                place = towers.index(home)
                towers[place] = replace(home, modalities=(*home.modalities, *left))
            elif left:
                towers.append(_tower(before, block, left))
            gone |= dict.fromkeys(left, before)
    columns = []
    for place, tower in enumerate(towers):
        for name in tower.modalities:
            model = gone.get(name, after)
            status: Status = "removed" if name in gone else "same" if before is None or name in old else "added"
            columns.append(_column(model.modality(name), model, place, status))
    return tuple(columns), tuple(towers)


def _column(modality: Modality, model: Model, tower: int, status: Status) -> Column:
    told = [tuple(line for line in each(modality, model) if line) for each in (entering, leaving)]
    return Column(name=modality.name, tower=tower, enters=told[0], leaves=told[1], status=status)


def _stretches(before: Model | None, after: Model) -> Iterator[Stretch]:
    """Layers that follow one another, with what they were and are; None where a model has not so many."""
    if before is None:
        yield from (((segment.first, segment.last), segment.layer, segment.layer) for segment in after.segments)
        return
    yield from aligned(before, after)
    common = min(before.layers, after.layers)
    for segment in max(before, after, key=lambda model: model.layers).segments:
        if segment.last >= common:
            where = (max(segment.first, common), segment.last)
            yield (where, None, segment.layer) if after.layers > common else (where, segment.layer, None)


def _panels(before: Model | None, after: Model, drawer: LayerDrawer) -> tuple[tuple[Panel, ...], tuple[Run, ...]]:
    """A panel for each kind of layer, and which layers are of it."""
    kinds: dict[tuple[int, int], list[Stretch]] = {}
    for stretch in _stretches(before, after):
        kinds.setdefault((id(stretch[1]), id(stretch[2])), []).append(stretch)
    panels: list[Panel] = []
    runs: list[Run] = []
    for place, stretches in enumerate(kinds.values()):
        where = [each for each, _, _ in stretches]
        runs += [Run(first=first, last=last, panel=place) for first, last in where]
        if place < MOST_PANELS:
            _, old, new = stretches[0]
            at = Place(letter=chr(ord("A") + place), runs=tuple(where), old=old, new=new)
            panels.append(drawer.panel(at, after.segments[0].layer))
    runs.sort(key=lambda run: run.first)
    if len(panels) == 1:
        panels = [replace(panels[0], letter="")]
    return tuple(panels), tuple(runs[:MOST_RUNS])
