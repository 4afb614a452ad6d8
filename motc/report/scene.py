"""What a drawing shows, without where it stands: towers, modalities, layers by kind, and the copies of every group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from motc.ir.layer import Layer, Source
from motc.ir.leaf import Block, Leaf
from motc.ir.mask import Mask

Status = Literal["same", "added", "removed", "changed"]
"""What became of something between two models; in a drawing of one model everything is the same."""

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where copies are: outside the layers, or in a kind of layer, what it was and what it is, in these runs."""

    letter: str
    runs: tuple[tuple[int, int], ...] = ()
    old: Layer | None = None
    new: Layer | None = None

    @property
    def count(self) -> int:
        """How often a copy is there."""
        return sum(last - first + 1 for first, last in self.runs) if self.runs else 1

    @property
    def layers(self) -> frozenset[int]:
        """The layers; none outside them."""
        return frozenset(layer for first, last in self.runs for layer in range(first, last + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A copy of a parameter group: `label` is the last of its path, `told` a few words of its size, and `was` its group
    in the earlier model.

    `experts` are how many a router has, and to how many of them a token goes; a `stacked` copy is of experts. What is
    drawn elsewhere is here `again`, as a table that is the head too.
    """

    key: str
    path: str
    label: str
    told: str
    leaf: Leaf
    block: Block
    was: Leaf | None
    modalities: Names
    place: Place
    status: Status = "same"
    experts: tuple[int, int] | None = None
    stacked: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Copies side by side; those of one group after another where groups share alike. `was`: the blocks of before."""

    cells: tuple[Cell, ...]
    is_thin: bool
    was: tuple[Names, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """Who sees whom: a mask, and its model's modalities in the order of their declaration."""

    mask: Mask
    modalities: Names


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """The one attention in which tokens of these modalities meet, who sees whom there, and if that changed, who saw."""

    told: str
    modalities: Names
    seen: Seen
    seen_before: Seen | None
    status: Status = "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A sublayer: what is told of it, and its rows from below to above. What it makes is added to the stream of
    `joined` modalities, before the last `rows_after` rows.

    One that does not read the stream as the sublayer before has left it stands beside that: it reads what came into
    the layer, its `entry`, or that `normed` by the first `rows_before` rows of the one before.
    """

    role: str
    told: str
    notes: tuple[str, ...]
    rows: tuple[Row | Meeting, ...]
    joined: Names
    rows_before: int = 0
    rows_after: int = 0
    reads: Source = "stream"
    status: Status = "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A kind of layer: its letter, the layers of it, and how it differs from the first kind."""

    letter: str
    where: str
    count: int
    differs: tuple[str, ...]
    frames: tuple[Frame, ...]
    status: Status = "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Layers that follow one another and are of one kind; `panel` is its place among the panels."""

    first: int
    last: int
    panel: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A modality: what comes in below, and what is made of it above; `tower` is the place of its tower."""

    name: str
    tower: int
    enters: Names
    leaves: Names
    status: Status = "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """Modalities that share what is not untied between them; `width` is that of their stream."""

    name: str
    modalities: Names
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A whole drawing. `before` and `after` are rows outside the layers, from below to above."""

    name: str
    columns: tuple[Column, ...]
    towers: tuple[Tower, ...]
    before: tuple[Row, ...]
    panels: tuple[Panel, ...]
    runs: tuple[Run, ...]
    after: tuple[Row, ...]
    layers: int
    is_diff: bool = False

    def cells(self) -> tuple[Cell, ...]:
        """All copies, from below to above."""
        frames = (frame for panel in self.panels for frame in panel.frames)
        rows = (*self.before, *(row for frame in frames for row in frame.rows), *self.after)
        return tuple(cell for row in rows if isinstance(row, Row) for cell in row.cells)
