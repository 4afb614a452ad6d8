"""How a model's losses are taken: what heads are given, and what is told apart."""

from __future__ import annotations

from typing import Literal

from motc.ir.model import Model
from motc.passes.schedule_steps import skips_latents

Scoring = Literal["pieces", "places", "targets", "masks"]
"""What a head works on, and its targets.

`places`: one vocabulary's, every place of the stream. `pieces`: the same, piece by piece and without latents.
`targets`: of own vocabularies, each the states before its own targets. `masks`: each every place, others masked out.
"""


def scoring(model: Model) -> Scoring:
    """How the losses of a model are taken."""
    if model.vocab is None:
        return "targets" if model.execution.heads_in_pieces else "masks"
    return "pieces" if skips_latents(model) and model.execution.heads_in_pieces else "places"
