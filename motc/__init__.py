"""motc: a declarative compiler for multi-modal transformers.

`load` is the one function most programs need; importing this package never imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from motc.loading import load as load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from motc.loading import load

        return load
    raise AttributeError(f"module 'motc' has no attribute {name!r}")
