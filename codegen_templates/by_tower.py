"""One copy of a module per block of modalities, and the stream they work on."""

from collections.abc import Mapping

from torch import Tensor, nn


class ByTower(nn.ModuleDict):
    """Copies of one module; part i of the stream goes through the copy that `route[i]` names, or past them if None.

    Without a route, part i goes through the i-th copy.
    """

    def __init__(self, copies: Mapping[str, nn.Module], route: tuple[str | None, ...] | None = None) -> None:
        super().__init__(copies)
        self.route = tuple(copies) if route is None else route

    def forward(self, parts: list[Tensor]) -> list[Tensor]:
        pairs = zip(self.route, parts, strict=True)
        return [part if name is None else self[name](part) for name, part in pairs]


def add(x: list[Tensor], y: list[Tensor]) -> list[Tensor]:
    """Part by part, x + y."""
    return [a + b for a, b in zip(x, y, strict=True)]
