"""Towers in another dtype than the rest of a model, such as a frozen one in bfloat16."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from motc.loading.arguments import read_dtype
from motc.training.copies import Trained
from motc.training.selection import Selection
from motc.training.selectors import select


def cast(model: nn.Module, *selectors: str, dtype: str | torch.dtype) -> Selection:
    """Keep the parameters that selectors name in a dtype of their own. What they are is returned as a table.

    A map whose weights are so computes in that dtype, and gives its results in the dtype that the model had; under
    autocast that says it. A table that is the head's too stays as it is. Before `compile()`, optimizers and wrappers.
    Raises ValueError where a selector names none, or of a map's weight and bias one alone, or for a dtype that a model
    cannot have, and TypeError for what is no model of motc's.
    """
    of, wanted = Trained(model), read_dtype(dtype)
    chosen = select(of, selectors)
    names = [name for name, copy in chosen.items() if not (of.model.tied_embedding and copy.path == "embedding")]
    if not names:
        raise ValueError(f"`{', '.join(selectors)}` means the embedding alone, whose table is the head's too")
    selection = Selection(of, names, f"{str(wanted).removeprefix('torch.')}: {', '.join(selectors)}")
    stream = reduce(torch.promote_types, {each.dtype for each in of.network.parameters()})
    holders = _holders(of, selection)
    for name, module in holders:
        left = [f"{name}.{own}" for own, _ in module.named_parameters(recurse=False)]
        left = [each for each in left if each not in selection.by_name]
        if left:
            raise ValueError(f"{left[0]} would be left in another dtype than the rest of {name}: select it too")
    for name, module in holders:
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.to(wanted)
        is_grouped = hasattr(of.network.get_submodule(name.rpartition(".")[0]), "is_grouped_product")
        if hasattr(module, "normalise") or hasattr(module, "gives") or (is_grouped and not name.startswith("head.")):
            continue  # they compute in the dtype of what they are given, or as is said here already
        module.gives = stream
        module.register_forward_pre_hook(to_own)
        module.register_forward_hook(to_given)
    return selection


def to_own(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a module is given, in the dtype of its parameters."""
    own = next(module.parameters(recurse=False)).dtype
    return tuple(each.to(own) if _is_cast(each) else each for each in arguments)


def to_given(module: Any, arguments: tuple[Any, ...], result: Any) -> Any:
    """What a module gives, in the model's dtype."""
    return result.to(module.gives) if _is_cast(result) else result


def _is_cast(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point() and not torch.is_autocast_enabled(x.device.type)


def _holders(of: Trained, selection: Selection) -> list[tuple[str, Any]]:
    """The modules that hold these parameters themselves, each once."""
    names = dict.fromkeys(name.rpartition(".")[0] for name in selection.by_name)
    return [(name, of.network.get_submodule(name)) for name in names]
