"""Tokens from the order sorted by modality to attention's slots, and back."""

from torch import Tensor

from .layout import SortingLayout
from .permute import permute


def to_slots(x: Tensor, layout: SortingLayout) -> Tensor:
    """Sorted tokens [N, ...] to attention's slots [R, L, ...], zeros where a slot has no token."""
    if isinstance(layout.places, int):
        return x
    rows, length = layout.inverse.shape
    return permute(x, layout.inverse.flatten(), layout.order, gaps=(True, False)).view(rows, length, *x.shape[1:])


def to_sorted(x: Tensor, layout: SortingLayout) -> Tensor:
    """Attention's slots [R, L, ...] to sorted tokens [N, ...]."""
    if isinstance(layout.places, int):
        return x
    return permute(x.flatten(0, 1), layout.order, layout.inverse.flatten(), gaps=(False, True))


def ids_to_sorted(ids: Tensor, layout: SortingLayout) -> Tensor:
    """Ids int64 [R, L] in attention's slots, sorted [N]."""
    return ids if isinstance(layout.places, int) else ids.flatten()[layout.order]
