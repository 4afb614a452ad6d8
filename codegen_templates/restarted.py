"""Positions that some modalities count anew."""

import torch
from torch import Tensor

from .constants import constant
from .layout import Layout
from .rows import document_starts
from .tokens import look_up


def restarted(positions: Tensor, layout: Layout, modalities: tuple[int, ...]) -> Tensor:
    """Positions [R, L] or [R, L, axes], those of some modalities from 0 in each document: less their smallest there."""
    mine = torch.isin(layout.rows.modality_ids, constant(modalities, positions.device))
    mine = mine if positions.ndim == 2 else mine[:, :, None].expand_as(positions)
    far = torch.iinfo(positions.dtype).max
    theirs = torch.where(mine, positions, far)
    if layout.document_ids is None:
        return torch.where(mine, positions - theirs.amin(dim=1, keepdim=True), positions)
    numbers = document_starts(layout.modality_ids, layout.document_ids).flatten().cumsum(0)
    document = look_up(numbers, layout.rows.slots, 0).flatten()  # 0: none
    smallest = torch.full((numbers.numel() + 1, *positions.shape[2:]), far, device=positions.device)
    index = document if positions.ndim == 2 else document[:, None].expand(-1, positions.shape[2])
    smallest = smallest.scatter_reduce(0, index, theirs.flatten(0, 1), "amin")
    return torch.where(mine, positions - smallest[document].view_as(positions), positions)
