"""Adapters of low rank beside some linear maps of a model, by the library peft."""

from __future__ import annotations

from typing import Any

from torch import nn

from motc.training.copies import Trained
from motc.training.selection import Selection
from motc.training.selectors import select
from motc.training.unneeded import leave_out_backward


class Lora:
    """A model with adapters. `model` is peft's, around the one that was given: it saves adapters and merges them.

    `maps` are the parameters that have an adapter beside them, `adapters` those of the adapters, which alone are
    trained. Its text is a table of both.
    """

    def __init__(self, model: Any, maps: Selection, adapters: Selection) -> None:
        self.model = model
        self.maps = maps
        self.adapters = adapters

    def __str__(self) -> str:
        return f"{self.maps}\n{self.adapters}"

    __repr__ = __str__


def lora(model: nn.Module, *selectors: str, rank: int = 8, alpha: int = 16, dropout: float = 0.0) -> Lora:
    """Give the linear maps that selectors name adapters of low rank, in place, and train these alone.

    A map's result has alpha / rank · B(A(x)) added; B starts at 0. Of what is selected besides linear maps, such as
    norms, tables and experts, nothing is adapted.
    Raises ValueError where a selector names nothing, or all of them no linear map, and where there are adapters
    already; TypeError for what is no model of motc's; ImportError without peft.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ImportError("motc.lora needs peft: pip install 'motc[lora]'") from error
    of = Trained(model)
    if any("lora_" in name for name, _ in of.network.named_parameters()):
        raise ValueError("the model has adapters already; merge them first, or select all maps in one call")
    chosen = select(of, selectors)
    modules = dict(of.network.named_modules())
    weights = [name for name in chosen if type(modules[name.rpartition(".")[0]]) is nn.Linear]
    if not weights:
        groups = ", ".join(dict.fromkeys(copy.path for copy in chosen.values()))
        raise ValueError(f"`{', '.join(selectors)}` has no linear maps, which adapters stand beside: {groups}")
    targets = sorted({name.rpartition(".")[0] for name in weights})
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets)
    adapted = get_peft_model(of.network, config)
    after = Trained(of.network)
    leave_out_backward(after)
    own = {name for name in after.by_name if "lora_" in name}
    maps = {f"{name.rpartition('.')[0]}.base_layer.{name.rpartition('.')[2]}" for name in weights}
    title = f"rank {rank}, alpha {alpha}, beside {', '.join(selectors)}"
    return Lora(adapted, Selection(after, maps, title), Selection(after, own, "trained"))
