"""What stands between up and down, as text."""

from __future__ import annotations

from motc.ir.model import FfnKind

ACTIVATIONS: dict[FfnKind, str] = {
    "swiglu": "F.silu({gate}) * {up}",
    "geglu": "F.gelu({gate}) * {up}",
    "gelu": "F.gelu({up})",
    "relu2": "F.relu({up}).square()",
}
