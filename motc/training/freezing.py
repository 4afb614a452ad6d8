"""Parameters that are not trained, and the backward that is left out for them."""

from __future__ import annotations

from torch import nn

from motc.training.copies import Trained
from motc.training.selection import Selection
from motc.training.selectors import select
from motc.training.unneeded import leave_out_backward


def freeze(model: nn.Module, *selectors: str) -> Selection:
    """Train no parameter that these selectors name. What they are is returned; its text is a table.

    They have no gradients, and the backward stops behind a linear map where nothing before it is trained either. What
    is trained is asked in each forward, so that may change at any time; the first call is to come before `compile()`.
    Raises ValueError where a selector names none, and TypeError for what is no model of motc's.
    """
    return _train(model, selectors, trained=False)


def unfreeze(model: nn.Module, *selectors: str) -> Selection:
    """Train all parameters that these selectors name, whatever has frozen them. As `freeze` otherwise."""
    return _train(model, selectors, trained=True)


def _train(model: nn.Module, selectors: tuple[str, ...], *, trained: bool) -> Selection:
    of = Trained(model)
    selection = Selection(of, select(of, selectors), f"{'trained' if trained else 'frozen'}: {', '.join(selectors)}")
    for parameter in selection:
        parameter.requires_grad_(trained)
        if not trained:
            parameter.grad = None
    leave_out_backward(of)
    return selection
