"""Who sees whom."""

import torch
from torch import Tensor


def visibility(
    modality_ids: Tensor,
    document_ids: Tensor | None,
    kind: str,
    prefix: tuple[int, ...] = (),
    bidirectional: tuple[int, ...] = (),
    blocks: tuple[tuple[int, ...], ...] = (),
    sees: tuple[tuple[bool, ...], ...] = (),
) -> Tensor:
    """Stand-in until the masks branch is merged: causal and full."""
    real = modality_ids >= 0
    seen = real[:, :, None] & real[:, None, :]
    if document_ids is not None:
        seen = seen & (document_ids[:, :, None] == document_ids[:, None, :])
    index = torch.arange(modality_ids.shape[1], device=seen.device)
    if kind == "causal":
        seen = seen & (index[:, None] >= index)
    return seen | torch.diag_embed(~real)
