"""A layout with the batch's rows, padding at their ends."""

from torch import Tensor

from .checks import check_modalities
from .layout_slots import SlotLayout, place_slots
from .masks import Mask
from .rows import fill_rows
from .rows_compact import compact_rows


def compact_layout(
    modality_ids: Tensor,
    document_ids: Tensor | None,
    modalities: tuple[int, ...],
    masks: tuple[Mask, ...],
    key: str = "",
) -> SlotLayout:
    """The batch's rows with padding at their ends; on a GPU reads nothing back.

    Raises TypeError or ValueError for ids as `check_modalities` does.
    """
    check_modalities(modality_ids, document_ids, len(modalities), reads=False)
    plain = ("causal",) if document_ids is None else ()
    rows = fill_rows(compact_rows(modality_ids), modality_ids, document_ids, masks, plain)
    return place_slots(rows, modality_ids, document_ids, modalities, key)
