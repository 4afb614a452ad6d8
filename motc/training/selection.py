"""Some parameters of a model, and what they are by group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from torch import nn

from motc.training.copies import Copy, Trained
from motc.training.selectors import select


class Selection:
    """Parameters of a model, by name; its text is a table of them: each group, its copies, and how many of how many.

    It can be given to an optimizer as it is.
    """

    def __init__(self, trained: Trained, names: Iterable[str], title: str) -> None:
        chosen = frozenset(names)
        self.title = title
        self._trained = trained
        self.by_name = {name: each for name, each in trained.by_name.items() if name in chosen}

    @property
    def names(self) -> list[str]:
        """The names of the parameters, as the generated model has them."""
        return list(self.by_name)

    def __iter__(self) -> Iterator[nn.Parameter]:
        return iter(self.by_name.values())

    def __len__(self) -> int:
        return len(self.by_name)

    def __str__(self) -> str:
        every = [*self._trained.by_name.values()]
        numbers, all_numbers = (sum(each.numel() for each in some) for some in (self, every))
        head = f"{self.title}: {len(self)} of {len(every)} parameters, {numbers:,} of {all_numbers:,} numbers"
        return "\n".join([head, *(f"  {line}" for line in aligned(self._rows()))])

    __repr__ = __str__

    def _rows(self) -> Iterator[tuple[str, str, str, str]]:
        """For each group that has some: its path, the copies and layers that have them, and how many of how many."""
        yield ("group", "copies", "layers", "parameters")
        by_path: dict[str, list[Copy]] = {}
        for copy in self._trained.copies:
            by_path.setdefault(copy.path, []).append(copy)
        for path, copies in by_path.items():
            own = [copy for copy in copies if any(name in self.by_name for name in self._trained.parameters[copy])]
            if own:
                every = [name for copy in copies for name in self._trained.parameters[copy]]
                names = ", ".join(dict.fromkeys(copy.name for copy in own if copy.name)) or "-"
                layers = ranges(sorted({copy.layer for copy in own if copy.layer is not None}))
                yield (path, names, layers, f"{sum(name in self.by_name for name in every)} of {len(every)}")


def parameters(model: nn.Module, *selectors: str) -> Selection:
    """The parameters of a generated model that selectors name, as docs/training.md has them.

    Raises ValueError where one of them names none, and TypeError for what is no model of motc's.
    """
    trained = Trained(model)
    return Selection(trained, select(trained, selectors), ", ".join(selectors))


def ranges(numbers: Sequence[int]) -> str:
    """`0..3, 6, 8..9`; `-` for none."""
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs) or "-"


def aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Rows as lines of text, each column as wide as its widest cell."""
    every = list(rows)
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in every]
