"""Pieces by boolean masks: the plain meaning of modality-specific parameters."""

import torch
from torch import Tensor

from codegen_templates.layout_slots import ModalityLayout


def piece_masks(layout: ModalityLayout, counts: tuple[int, ...]) -> list[Tensor]:
    """For each piece a bool [R, L]: which slots hold its tokens, piece i being `counts[i]` modalities."""
    first, masks = 0, []
    for count in counts:
        masks.append((layout.places >= first) & (layout.places < first + count))
        first += count
    return masks


def split(x: Tensor, layout: ModalityLayout, counts: tuple[int, ...]) -> list[Tensor]:
    """What stands in the slots [R, L, ...], each piece's tokens [n, ...] by themselves."""
    return [x[mask] for mask in piece_masks(layout, counts)]


def merge(pieces: list[Tensor], layout: ModalityLayout, counts: tuple[int, ...]) -> Tensor:
    """The pieces back in their slots [R, L, ...], zeros where there is no token."""
    dtype = pieces[0].dtype
    for piece in pieces[1:]:  # autocast may have lowered some
        dtype = torch.promote_types(dtype, piece.dtype)
    whole = pieces[0].new_zeros(*layout.places.shape, *pieces[0].shape[1:], dtype=dtype)
    for piece, mask in zip(pieces, piece_masks(layout, counts), strict=True):
        whole = whole.masked_scatter(mask.view(*mask.shape, *(1 for _ in piece.shape[1:])), piece.to(dtype))
    return whole
