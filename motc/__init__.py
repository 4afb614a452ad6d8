"""motc: a declarative compiler for multi-modal transformers.

`load` and `save` are what most programs need; importing this package never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from motc.loading import load as load
    from motc.report.notebook import diff as diff
    from motc.report.notebook import spec as spec
    from motc.training.absent import skip_absent as skip_absent
    from motc.training.balance import balance as balance
    from motc.training.casting import cast as cast
    from motc.training.checkpoints import load_checkpoint as load_checkpoint
    from motc.training.checkpoints import load_weights as load_weights
    from motc.training.checkpoints import save_checkpoint as save_checkpoint
    from motc.training.checkpoints import save_weights as save_weights
    from motc.training.freezing import freeze as freeze
    from motc.training.freezing import unfreeze as unfreeze
    from motc.training.groups import optimizer_groups as optimizer_groups
    from motc.training.lora import lora as lora
    from motc.training.parallel import clip_gradients as clip_gradients
    from motc.training.parallel import parallelize as parallelize
    from motc.training.parallel import share_of_all as share_of_all
    from motc.training.selection import parameters as parameters
    from motc.weights.write import save as save

__version__ = "0.1.0"

_WHERE = {
    "balance": "motc.training.balance",
    "cast": "motc.training.casting",
    "freeze": "motc.training.freezing",
    "load": "motc.loading",
    "load_checkpoint": "motc.training.checkpoints",
    "load_weights": "motc.training.checkpoints",
    "lora": "motc.training.lora",
    "optimizer_groups": "motc.training.groups",
    "parallelize": "motc.training.parallel",
    "parameters": "motc.training.selection",
    "save": "motc.weights.write",
    "save_checkpoint": "motc.training.checkpoints",
    "save_weights": "motc.training.checkpoints",
    "clip_gradients": "motc.training.parallel",
    "share_of_all": "motc.training.parallel",
    "skip_absent": "motc.training.absent",
    "spec": "motc.report.notebook",
    "unfreeze": "motc.training.freezing",
}
__all__ = [
    "__version__",
    "balance",
    "cast",
    "clip_gradients",
    "diff",
    "freeze",
    "load",
    "load_checkpoint",
    "load_weights",
    "lora",
    "optimizer_groups",
    "parallelize",
    "parameters",
    "save",
    "save_checkpoint",
    "save_weights",
    "share_of_all",
    "skip_absent",
    "spec",
    "unfreeze",
]


def __getattr__(name: str) -> Any:
    if name == "diff":  # a folder of the compiler, which can be called too
        return import_module("motc.diff")
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'motc' has no attribute {name!r}")
