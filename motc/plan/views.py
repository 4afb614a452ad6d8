"""How a model's attention is called: plainly, in a few calls by views, or with a matrix of who sees whom."""

from __future__ import annotations

from motc.ir.mask import Kernel, Mask
from motc.ir.model import Model


def kernel(mask: Mask, model: Model) -> Kernel:
    """What a mask needs in this model. Only rows that are one document each can be cut into views."""
    needed = mask.kernel(model.names)
    return "matrix" if needed == "views" and not model.execution.rows_are_documents else needed


def view_gathers(mask: Mask, model: Model) -> int:
    """How many gathers a layer's calls by views make: of their keys, values and queries where those are not all of a
    row, and of the answers back. None where there are no views.
    """
    if kernel(mask, model) != "views":
        return 0
    gathers = 1
    for view in mask.views(model.names):
        sees_row = view.seen == model.names
        gathers += 0 if sees_row and view.causal else 1 if sees_row else 3
    return gathers
