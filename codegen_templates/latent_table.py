"""A table of sines that tells a latent's tokens where they are."""

from __future__ import annotations

import torch
from torch import Tensor

from .constants import made_once


@made_once
def sine_table(rows: int, columns: int, width: int, base: int | None, crop: int | None, device: torch.device) -> Tensor:
    """What is added to the tokens of a grid [rows * columns, width], in float32 (ViT's of MAE, 2111.06377).

    One half is of a token's column, the other of its row, each sines and then cosines, of frequencies from 1 to
    1/10,000. With a `base` places go from 0 to below that, whatever the grid's sides; with a `crop` besides, the grid
    is the middle of one of that size, whose places do.
    """
    sides = [_places(side, base, crop) for side in (columns, rows)]
    omega = torch.arange(width // 4, dtype=torch.float64) / (width / 4.0)
    angles = [torch.outer(side, 1.0 / 10000**omega) for side in sides]
    of_columns, of_rows = (torch.cat((each.sin(), each.cos()), dim=1) for each in angles)
    table = torch.cat((of_columns.repeat(rows, 1), of_rows.repeat_interleave(columns, 0)), dim=1)
    return table.float().to(device)


def _places(side: int, base: int | None, crop: int | None) -> Tensor:
    """The places of a grid's rows, or columns, float32 [side]. Raises ValueError for a grid larger than the crop."""
    whole = side if crop is None else crop
    if side > whole:
        raise ValueError(f"a latent has {side} patches along a side, and its table is of {whole}")
    places = torch.arange(whole, dtype=torch.float32)
    start = (whole - side) // 2
    return (places if base is None else places / (whole / base))[start : start + side]


class SineTable:
    """The table of tokens in a grid; `base` and `crop` as for `sine_table`."""

    def __init__(self, base: int | None = None, crop: int | None = None) -> None:
        self.base, self.crop = base, crop

    def of(self, grid: tuple[int, int], like: Tensor) -> Tensor:
        """What is added to tokens [..., rows * columns, w] of a grid, as `like` them."""
        rows, columns = grid
        return sine_table(rows, columns, like.shape[-1], self.base, self.crop, like.device).to(like.dtype)
