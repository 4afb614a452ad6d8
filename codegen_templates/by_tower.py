"""One copy of a module per block of modalities."""

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from torch import Tensor, nn

from .layout import Layout
from .untrained import untrained


class ByTower(nn.ModuleDict):
    """Copies of one module, by name; piece i goes through the copy that `route[i]` names, or past them if None.

    Without a route, piece i goes through the i-th copy. `ends[i]` is the number of modalities that the first i + 1 of
    `route` serve together; not given, each serves one. Of what copies in `untrained` make, no gradient goes back.
    """

    def __init__(
        self,
        copies: Mapping[str, nn.Module],
        route: tuple[str | None, ...] | None = None,
        ends: tuple[int, ...] | None = None,
        untrained: tuple[str, ...] = (),
    ) -> None:
        super().__init__(copies)
        self._untrained = untrained
        self.route = tuple(copies) if route is None else route
        self.ends = tuple(range(1, len(self.route))) if ends is None else ends

    def forward(self, pieces: list[Tensor], layout: Layout) -> list[Tensor]:
        route = (self.route[bisect(self.ends, layout.places)],) if isinstance(layout.places, int) else self.route
        pairs = zip(route, pieces, strict=True)
        return [piece if name is None else self._through(name, piece) for name, piece in pairs]

    def _through(self, name: str, piece: Tensor) -> Tensor:
        """What a copy makes of a piece."""
        result: Tensor = self[name](piece)
        return untrained(result, self[name], piece) if name in self._untrained else result


def each_piece(
    functions: Sequence[Callable[..., Tensor]], layout: Layout, counts: tuple[int, ...], *pieces: list[Tensor]
) -> list[Tensor]:
    """Piece i, of `counts[i]` modalities, through the i-th function; of several lists, one argument of each."""
    if isinstance(layout.places, int):
        functions = [functions[bisect([*accumulate(counts[:-1])], layout.places)]]
    return [function(*piece) for function, *piece in zip(functions, *pieces, strict=True)]


def add(x: list[Tensor], y: list[Tensor]) -> list[Tensor]:
    """Piece by piece, x + y."""
    return [a + b for a, b in zip(x, y, strict=True)]
