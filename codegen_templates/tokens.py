"""Looking tokens up by their places; -1 stands for none."""

import torch
from torch import Tensor

from .constants import constant


def look_up(values: Tensor, index: Tensor, missing: int) -> Tensor:
    """values[index] for int64 values [n], and `missing` where the index is -1."""
    return torch.where(index >= 0, values[index.clamp(min=0)], missing)


def invert(order: Tensor, size: int) -> Tensor:
    """The inverse int64 [size] of an order int64 [n] that repeats nothing but -1; -1 for what the order leaves out."""
    inverse = order.new_full((size + 1,), -1)
    inverse[order] = torch.arange(order.numel(), device=order.device)  # index -1 is the last entry, cut off below
    return inverse[:size]


def places_of(modality_ids: Tensor, modalities: tuple[int, ...]) -> Tensor:
    """The place of each modality in the order they are sorted in; their number where there is none."""
    order = tuple(modalities.index(modality) for modality in range(len(modalities)))
    places = constant(order, modality_ids.device)
    return look_up(places, modality_ids, len(modalities))


def real_tokens(tokens: Tensor, modality_ids: Tensor) -> Tensor:
    """Tokens of the flattened batch, -1 where one is a stand-in for padding."""
    return torch.where(look_up(modality_ids.flatten(), tokens, -1) >= 0, tokens, -1)


def token_before(modality_ids: Tensor) -> Tensor:
    """The place of the last real token before each place of a row, int64 [R, L]; -1 where there is none."""
    place = torch.arange(modality_ids.shape[1], device=modality_ids.device)
    latest = torch.where(modality_ids >= 0, place, -1).cummax(dim=1).values
    return torch.where(place > 0, latest.roll(1, dims=1), -1)
