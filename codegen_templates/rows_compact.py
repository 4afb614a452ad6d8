"""Attention's rows: the batch's, padding at their ends."""

import torch
from torch import Tensor


def compact_rows(modality_ids: Tensor) -> Tensor:
    """Slots [B, S] with padding moved to each row's end; reads nothing back from the device."""
    batch, sequence = modality_ids.shape
    first = torch.arange(batch, device=modality_ids.device)[:, None] * sequence
    order = torch.argsort((modality_ids < 0).to(torch.uint8), dim=1, stable=True)
    return torch.where(modality_ids.gather(1, order) >= 0, order + first, -1)
