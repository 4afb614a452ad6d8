"""IR to IR. The passes, in the order they run; the IR is verified after each."""

from __future__ import annotations

from collections.abc import Callable

from motc.ir.model import Model
from motc.passes.merge_segments import merge_segments
from motc.passes.order_stream import order_stream

PASSES: tuple[Callable[[Model], Model], ...] = (merge_segments, order_stream)
