"""motc: a declarative compiler for multi-modal transformers.

`load` and `save` are what most programs need; importing this package never imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from motc.loading import load as load
    from motc.weights.write import save as save

__version__ = "0.1.0"
__all__ = ["__version__", "load", "save"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from motc.loading import load

        return load
    if name == "save":
        from motc.weights.write import save

        return save
    raise AttributeError(f"module 'motc' has no attribute {name!r}")
