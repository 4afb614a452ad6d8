"""Edits of partitions: what is shared by which modalities, leaf by leaf, told in the widest words that hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from motc.diff.edit import Edit
from motc.diff.facts import Blocks, Stretch
from motc.diff.merge import add
from motc.ir.inventory import LAYER_PATHS, SECTIONS
from motc.ir.partition import Partition

WORDS = {
    **{section: paths for section, paths in SECTIONS.items() if section != "norm"},
    "*.norm": tuple(path for path in SECTIONS["norm"] if path in LAYER_PATHS),
}

Change = tuple[Partition, Partition]


def repartition(start: Stretch, goal: Stretch) -> Stretch:
    """`start`, its attributes kept, with the blocks of `goal`.

    A modality that has the leaf only in `start` stays with those it was with; one that has it only in `goal` adds
    nothing yet. So between two stretches that share alike, nothing changes.
    """
    shared: dict[str, Blocks] = {}
    for path in dict.fromkeys((*start.blocks, *goal.blocks)):
        if start.blocks.get(path) == goal.blocks.get(path):
            shared[path] = goal.blocks[path]
            continue
        blocks = [list(block) for block in goal.blocks.get(path, ())]
        placed = {name for block in blocks for name in block}
        for old in start.blocks.get(path, ()):
            leaving = [name for name in old if name not in placed]
            mate = next((name for name in old if name in placed), None)
            home = next((block for block in blocks if mate in block), None)
            if home is not None:
                home.extend(leaving)
            elif leaving:
                blocks.append(leaving)
        shared[path] = tuple(tuple(block) for block in blocks)
    return replace(start, blocks=shared)


def partition_edits(start: Stretch, goal: Stretch, layers: tuple[int, int] | None) -> list[Edit]:
    """How the sharing differs between two stretches with the same modalities, with `start`'s attributes."""
    before, after = start.leaf_parameters(), repartition(start, goal).leaf_parameters()
    changes = {path: _change(start, goal, path) for path in start.blocks if path in goal.blocks}
    return [
        Edit(
            kind="~",
            subject=subject,
            before=str(changes[paths[0]][0]),
            after=str(changes[paths[0]][1]),
            layers=layers,
            parameters=sum(after[path] - before[path] for path in paths),
            flops=dict.fromkeys(goal.attributes, 0),
        )
        for subject, paths in _words(changes).items()
    ]


def take_in_outer_norms(in_layers: list[Edit], outside: list[Edit], layers: int, norms: set[str]) -> list[Edit]:
    """Edits in which `*.norm` of all layers and the `norms` outside them, such as `final_norm`, that both models have
    are one word, `norm`, where all of them change alike.
    """
    inner = next((edit for edit in in_layers if edit.subject == "*.norm" and edit.layers == (0, layers - 1)), None)
    if inner is None:
        return in_layers + outside
    alike = [e for e in outside if e.subject in norms and (e.before, e.after) == (inner.before, inner.after)]
    if len(alike) < len(norms):
        return in_layers + outside
    merged = inner
    for edit in alike:
        merged = add(merged, edit, inner.layers)
    kept = [edit for edit in outside if edit not in alike]
    return [replace(merged, subject="norm") if edit is inner else edit for edit in in_layers] + kept


def words_for(paths: tuple[str, ...], present: tuple[str, ...]) -> tuple[str, ...]:
    """The paths, but a section's name, such as `attention`, where they have all of its paths that are present."""
    left, words = list(paths), []
    for section, members in WORDS.items():
        here = [path for path in members if path in present]
        if len(here) > 1 and all(path in left for path in here):
            words.append(section)
            left = [path for path in left if path not in here]
    return (*words, *left)


def _change(start: Stretch, goal: Stretch, path: str) -> Change:
    """The partitions of the modalities that have the leaf in both."""
    old, new = ({name for block in stretch.blocks[path] for name in block} for stretch in (start, goal))
    common = tuple(name for name in goal.attributes if name in old and name in new)
    return _restrict(start.blocks[path], common), _restrict(goal.blocks[path], common)


@lru_cache(maxsize=1024)  # the leaves of a stretch mostly share alike
def _restrict(blocks: Blocks, names: tuple[str, ...]) -> Partition:
    among = set(names)
    kept = (tuple(name for name in block if name in among) for block in blocks)
    return Partition.of(names, (block for block in kept if block))


def _words(changes: Mapping[str, Change]) -> dict[str, tuple[str, ...]]:
    """The changes by what they are called: by a section's name where all its leaves changed alike, else by a leaf's."""
    words: dict[str, tuple[str, ...]] = {}
    changed = [path for path, (before, after) in changes.items() if before != after]
    for section, members in WORDS.items():
        here = [path for path in members if path in changes]
        moved = sorted((path for path in here if path in changed), key=lambda path: -len(changes[path][0].universe))
        if moved and len(here) > 1 and all(_follows(changes[path], changes[moved[0]]) for path in here):
            words[section] = (moved[0], *(path for path in here if path != moved[0]))
            changed = [path for path in changed if path not in here]
    return words | {path: (path,) for path in changed}


def _follows(change: Change, leader: Change) -> bool:
    """Whether a leaf changed as the leader did; one that concerns modalities the leader does not is another matter."""
    universe = change[0].universe
    if not set(universe) <= set(leader[0].universe):
        return False
    return change == (_restrict(leader[0].blocks, universe), _restrict(leader[1].blocks, universe))
