"""What a feed-forward makes of its hidden vector, as text."""

from __future__ import annotations

from typing import assert_never

from motc.ir.feed_forward import GATED, FfnKind, activation_of
from motc.ir.operators import Activation


def activation(kind: FfnKind | None, gate: str, up: str) -> str:
    """The expression of what a feed-forward makes of `up`, and of `gate` where it is gated; there may be none."""
    if kind is None:
        return up
    if kind == "clamped_geglu":
        return f"clamped_geglu({gate}, {up})"
    activated = activation_of(kind)
    return f"{_activated(activated, gate)} * {up}" if kind in GATED else _activated(activated, up)


def _activated(activation: Activation, x: str) -> str:
    match activation:
        case "silu" | "gelu" | "relu":
            return f"F.{activation}({x})"
        case "gelu_tanh":
            return f'F.gelu({x}, approximate="tanh")'
        case "quick_gelu":
            return f"quick_gelu({x})"
        case "relu2":
            return f"F.relu({x}).square()"
        case _:
            assert_never(activation)
