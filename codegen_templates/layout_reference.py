"""Boolean masks: the plain meaning of modality-specific parameters."""

import torch
from torch import Tensor

from .checks import check_modalities
from .layout_slots import SlotLayout, place_slots
from .masks import Mask
from .rows import fill_rows


def batch_layout(
    modality_ids: Tensor,
    document_ids: Tensor | None,
    modalities: tuple[int, ...],
    masks: tuple[Mask, ...],
    key: str = "",
) -> SlotLayout:
    """The batch's rows as they are. Raises TypeError or ValueError for ids as `check_modalities` does."""
    check_modalities(modality_ids, document_ids, len(modalities), reads=True)
    plain = ("causal", "full") if document_ids is None and bool((modality_ids >= 0).all()) else ()
    tokens = torch.arange(modality_ids.numel(), device=modality_ids.device).view_as(modality_ids)
    slots = torch.where(modality_ids >= 0, tokens, -1)
    rows = fill_rows(slots, modality_ids, document_ids, masks, plain, in_chunks=False)
    return place_slots(rows, modality_ids, document_ids, modalities, key)


def piece_masks(places: Tensor, counts: tuple[int, ...]) -> list[Tensor]:
    """For each piece a bool [R, L]: which slots hold its tokens, piece i being `counts[i]` modalities."""
    first, masks = 0, []
    for count in counts:
        masks.append((places >= first) & (places < first + count))
        first += count
    return masks


def select(x: Tensor, layout: SlotLayout, counts: tuple[int, ...]) -> list[Tensor]:
    """What stands in the slots [R, L, ...], each piece's tokens [n, ...] by themselves."""
    if isinstance(layout.places, int):
        return [x]
    return [x[mask] for mask in piece_masks(layout.places, counts)]


def put_back(pieces: list[Tensor], layout: SlotLayout, counts: tuple[int, ...]) -> Tensor:
    """The pieces back in their slots [R, L, ...], zeros where there is no token."""
    if isinstance(layout.places, int):
        return pieces[0]
    dtype = pieces[0].dtype
    for piece in pieces[1:]:  # autocast may have lowered some
        dtype = torch.promote_types(dtype, piece.dtype)
    whole = pieces[0].new_zeros(*layout.places.shape, *pieces[0].shape[1:], dtype=dtype)
    for piece, mask in zip(pieces, piece_masks(layout.places, counts), strict=True):
        whole = whole.masked_scatter(mask.view(*mask.shape, *(1 for _ in piece.shape[1:])), piece.to(dtype))
    return whole
