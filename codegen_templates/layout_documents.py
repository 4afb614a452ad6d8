"""A layout with a row for each document."""

from torch import Tensor

from .checks import check_modalities
from .layout_slots import SlotLayout, place_slots
from .masks import Mask
from .rows_documents import rows_by_document
from .sizes import exporting


def document_layout(
    modality_ids: Tensor,
    document_ids: Tensor | None,
    modalities: tuple[int, ...],
    masks: tuple[Mask, ...],
    key: str = "",
) -> SlotLayout:
    """A row for each document, without its padding. Raises TypeError or ValueError for ids as `check_modalities` does.

    Reads sizes back from the device.
    """
    check_modalities(modality_ids, document_ids, len(modalities), reads=True)
    rows = rows_by_document(modality_ids, document_ids, masks)
    identical = not exporting() and document_ids is None and bool((modality_ids >= 0).all())
    return place_slots(rows, modality_ids, document_ids, modalities, key, identical)
