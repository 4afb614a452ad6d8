"""Between attention's slots and the tokens sorted by modality."""

from torch import Tensor

from .layout import SortingLayout
from .permute import permute


def to_slots(x: Tensor, layout: SortingLayout) -> Tensor:
    """Sorted tokens [N, ...] in attention's slots [R, L, ...], zeros where there is none."""
    rows, length = layout.inverse.shape
    return permute(x, layout.inverse.flatten(), layout.order).view(rows, length, *x.shape[1:])


def to_sorted(x: Tensor, layout: SortingLayout) -> Tensor:
    """What stands in the slots [R, L, ...], sorted [N, ...]."""
    return permute(x.flatten(0, 1), layout.order, layout.inverse.flatten())
