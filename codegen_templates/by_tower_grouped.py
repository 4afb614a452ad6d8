"""One copy of a module per block of modalities, all in one grouped matrix product."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ByTower(nn.ModuleDict):
    """Copies of a linear map, or of an embedding; group i of the tokens goes through the one that `route[i]` names.

    Without a route, group i goes through the i-th copy.
    """

    def __init__(self, copies: Mapping[str, nn.Module], route: tuple[str, ...] | None = None) -> None:
        super().__init__(copies)
        self.route = tuple(copies) if route is None else route

    def of(self, parameter: str) -> list[Tensor]:
        """The weight or bias of each group."""
        return [getattr(self[name], parameter) for name in self.route]

    def forward(self, pieces: list[Tensor]) -> list[Tensor]:
        x, ends = pieces
        token = torch.arange(x.shape[0], dtype=torch.int32, device=x.device)
        group = torch.bucketize(token, ends, right=True)
        weights = self.of("weight")
        if not x.is_floating_point():  # ids of the tables, which stand one behind the other
            sizes = torch.tensor([0, *(table.shape[0] for table in weights[:-1])], device=x.device)
            return [F.embedding(x + sizes.cumsum(0)[group], torch.cat(weights))]
        y = F.grouped_mm(x, torch.stack([weight.t() for weight in weights]), offs=ends)
        if getattr(self[self.route[0]], "bias", None) is not None:
            y = y + torch.stack(self.of("bias"))[group]
        return [y]
