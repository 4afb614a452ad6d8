"""One copy of a module per block of modalities."""

from collections.abc import Mapping

from torch import Tensor, nn


class ByTower(nn.ModuleDict):
    """Copies of one module; piece i goes through the copy that `route[i]` names, or past them if None.

    Without a route, piece i goes through the i-th copy.
    """

    def __init__(self, copies: Mapping[str, nn.Module], route: tuple[str | None, ...] | None = None) -> None:
        super().__init__(copies)
        self.route = tuple(copies) if route is None else route

    def forward(self, pieces: list[Tensor]) -> list[Tensor]:
        pairs = zip(self.route, pieces, strict=True)
        return [piece if name is None else self[name](piece) for name, piece in pairs]


def add(x: list[Tensor], y: list[Tensor]) -> list[Tensor]:
    """Piece by piece, x + y."""
    return [a + b for a, b in zip(x, y, strict=True)]
