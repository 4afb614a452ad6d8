"""Remove the permutations that undo one another.

before   attention.norm = unsort(attention.norm sorted)
         attention.norm sorted = sort(attention.norm)
         attention.q sorted = attention.q(attention.norm sorted)
after    attention.q sorted = attention.q(attention.norm sorted)
"""

from __future__ import annotations

from motc.ir.model import Model
from motc.passes.permutations import cancel


def cancel_permutations(model: Model) -> Model:
    """The same model with as few permutations as its steps' orders allow."""
    return model.with_steps(lambda steps, gives: cancel(steps))
