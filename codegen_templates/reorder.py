"""Between the orders in which a batch's tokens are kept."""

from torch import Tensor

from codegen_templates.layout_sorted import ModalityLayout
from codegen_templates.permute import permute


def to_slots(x: Tensor, layout: ModalityLayout) -> Tensor:
    """Sorted tokens [N, ...] in attention's slots [R, L, ...], zeros where there is none."""
    rows, length = layout.inverse.shape
    return permute(x, layout.inverse.flatten(), layout.order).view(rows, length, *x.shape[1:])


def to_sorted(x: Tensor, layout: ModalityLayout) -> Tensor:
    """What stands in the slots [R, L, ...], sorted [N, ...]."""
    return permute(x.flatten(0, 1), layout.order, layout.inverse.flatten())


def to_batch(x: Tensor, layout: ModalityLayout) -> Tensor:
    """The stream [N, ...] (or [R, L, ...]) as the batch [B, S, ...] it came from, zeros at padding."""
    rows = x.flatten(0, layout.tokens.ndim - 1)
    batch, sequence = layout.batch.shape
    return permute(rows, layout.batch.flatten(), layout.tokens.flatten()).view(batch, sequence, *rows.shape[1:])
