"""IR to IR. The passes, in the order they run; the IR is verified after each."""

from __future__ import annotations

from collections.abc import Callable

from motc.ir.model import Model
from motc.passes.assign_orders import assign_orders
from motc.passes.cancel_permutations import cancel_permutations
from motc.passes.merge_segments import merge_segments
from motc.passes.order_modalities import order_modalities
from motc.passes.place_permutations import place_permutations
from motc.passes.schedule_steps import schedule_steps

PASSES: tuple[Callable[[Model], Model], ...] = (
    merge_segments,
    order_modalities,
    schedule_steps,
    assign_orders,
    place_permutations,
    cancel_permutations,
)
