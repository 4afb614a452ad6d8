"""A learnt table that tells a latent's tokens where they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlaceTable(nn.Embedding):
    """A vector for each row and column of a grid.

    A smaller grid is its middle, as in AuraFlow; `interpolated`, one of any size is all of it, bicubically, as in ViT.
    """

    def __init__(self, rows: int, columns: int, width: int, interpolated: bool = False) -> None:
        super().__init__(rows * columns, width)
        self.rows, self.columns, self.interpolated = rows, columns, interpolated

    def of(self, grid: tuple[int, int], like: Tensor) -> Tensor:
        """What is added to tokens [..., rows * columns, w] of a grid, as `like` them.

        Raises ValueError for a grid larger than the table, if it is not interpolated.
        """
        rows, columns = grid
        table = self.weight.view(self.rows, self.columns, -1)
        if self.interpolated:
            if grid != (self.rows, self.columns):
                wide = table.to(torch.promote_types(table.dtype, torch.float32)).permute(2, 0, 1)[None]
                table = F.interpolate(wide, size=grid, mode="bicubic", align_corners=False)[0].permute(1, 2, 0)
            return table.flatten(0, 1).to(like.dtype)
        if rows > self.rows or columns > self.columns:
            places = f"{self.rows} x {self.columns}"
            raise ValueError(f"a latent has {rows} x {columns} patches, and its table {places} places")
        top, left = self.rows // 2 - rows // 2, self.columns // 2 - columns // 2
        return table[top : top + rows, left : left + columns].flatten(0, 1).to(like.dtype)
