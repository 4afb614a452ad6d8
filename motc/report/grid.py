"""Where the columns of a drawing stand: a column for each modality, those of a tower side by side."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from motc.report.scene import Column, Names, Scene

WIDTHS = {1: 300.0, 2: 232.0, 3: 196.0, 4: 172.0}
NARROWEST = 132.0
GAP = 10.0
GAP_OF_TOWERS = 22.0
APART = (0, 3, 4, 7, 6, 2, 1, 5)
"""The colours of towers in a diff: those that are least like what stands for added, removed and changed come first."""

INSET = 14.0
"""How far a column's boxes stand from its left edge, where what goes past a sublayer is drawn."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The columns, in order, with the left edge of each; all are `width` wide."""

    columns: tuple[Column, ...]
    lefts: tuple[float, ...]
    width: float
    colours: tuple[int, ...]

    @classmethod
    def of(cls, scene: Scene, left: float) -> Grid:
        """The grid that begins at `left`."""
        colours = APART if scene.is_diff else tuple(range(len(APART)))
        width = WIDTHS.get(len(scene.columns), NARROWEST)
        lefts: list[float] = []
        for place, column in enumerate(scene.columns):
            if place:
                same = scene.columns[place - 1].tower == column.tower
                left += width + (GAP if same else GAP_OF_TOWERS)
            lefts.append(left)
        return cls(scene.columns, tuple(lefts), width, colours)

    def moved(self, right: float) -> Grid:
        """The same, further to the right."""
        return replace(self, lefts=tuple(left + right for left in self.lefts))

    @property
    def left(self) -> float:
        return self.lefts[0]

    @property
    def right(self) -> float:
        return self.lefts[-1] + self.width

    @property
    def names(self) -> Names:
        return tuple(column.name for column in self.columns)

    def lane(self, name: str) -> float:
        """The middle of a modality's column, where its stream goes up."""
        return self.lefts[self.names.index(name)] + (self.width + INSET) / 2

    def tower_span(self, tower: int) -> tuple[float, float]:
        """The left and the right edge of a tower."""
        of_tower = [left for left, column in zip(self.lefts, self.columns, strict=True) if column.tower == tower]
        return of_tower[0], of_tower[-1] + self.width

    def pieces(self, names: Collection[str]) -> list[tuple[float, float]]:
        """From where to where boxes of these modalities go: one piece for columns that stand side by side."""
        pieces: list[tuple[float, float]] = []
        last = -2
        for place, column in enumerate(self.columns):
            if column.name not in names:
                continue
            start, end = self.lefts[place] + INSET, self.lefts[place] + self.width
            if place == last + 1:
                pieces[-1] = (pieces[-1][0], end)
            else:
                pieces.append((start, end))
            last = place
        return pieces

    def look(self, names: Collection[str]) -> str:
        """What boxes of these modalities look like: as their tower, or as what several towers share."""
        towers = {column.tower for column in self.columns if column.name in names}
        return self.tower_look(towers.pop()) if len(towers) == 1 else "shared"

    def tower_look(self, tower: int) -> str:
        """What a tower looks like."""
        return f"tower{self.colours[tower % len(self.colours)]}"
