"""Looking values up by index, where index -1 stands for no token."""

import torch
from torch import Tensor

from .constants import constant


def look_up(values: Tensor, index: Tensor, missing: int) -> Tensor:
    """values[index] for int64 values [n], and `missing` where the index is -1."""
    return torch.where(index >= 0, values[index.clamp(min=0)], missing)


def invert(order: Tensor, size: int) -> Tensor:
    """Where each of 0..size - 1 stands in an order int64 [n], as int64 [size]; -1 for those that it does not have.

    Only -1 may be there more than once.
    """
    inverse = order.new_full((size + 1,), -1)
    inverse[order] = torch.arange(order.numel(), device=order.device)  # index -1 is the last entry, cut off below
    return inverse[:size]


def places_of(modality_ids: Tensor, modalities: tuple[int, ...]) -> Tensor:
    """Each token's modality as its place in the order `modalities`; where there is no token, their number."""
    order = tuple(modalities.index(modality) for modality in range(len(modalities)))
    places = constant(order, modality_ids.device)
    return look_up(places, modality_ids, len(modalities))


def real_tokens(tokens: Tensor, modality_ids: Tensor) -> Tensor:
    """Tokens of the flattened batch, -1 in the place of one that only stands in for padding."""
    return torch.where(look_up(modality_ids.flatten(), tokens, -1) >= 0, tokens, -1)


def token_before(modality_ids: Tensor) -> Tensor:
    """The place of the last real token before each place of a row, int64 [R, L]; -1 where there is none."""
    place = torch.arange(modality_ids.shape[1], device=modality_ids.device)
    latest = torch.where(modality_ids >= 0, place, -1).cummax(dim=1).values
    return torch.where(place > 0, latest.roll(1, dims=1), -1)


def in_last_document(modality_ids: Tensor, document_ids: Tensor | None) -> Tensor:
    """Which tokens belong to their row's last document, bool [B, S]; padding does not."""
    real = modality_ids >= 0
    if document_ids is None:
        return real
    place = torch.arange(real.shape[1], device=real.device)
    last = torch.where(real, place, 0).amax(dim=1, keepdim=True)
    return real & (document_ids == document_ids.gather(1, last))
