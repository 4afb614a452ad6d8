"""Put a permutation wherever the order changes.

    before   attention.norm = attention.norm(x)                 sorted
    after    x sorted = sort(x)
             attention.norm sorted = attention.norm(x sorted)   sorted
             attention.norm = unsort(attention.norm sorted)

Every value is brought back to the stream's order, here attention's slots: this is how a model that groups tokens
around each operation runs.
"""

from __future__ import annotations

from motc.ir.model import Model
from motc.passes.permutations import place


def place_permutations(model: Model) -> Model:
    """The same model, with a step for each permutation."""
    return model.with_steps(lambda steps, gives: place(steps, model.residual, gives or model.residual))
