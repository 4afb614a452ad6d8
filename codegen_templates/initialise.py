"""Initial weights that depend on a parameter's name and the seed alone."""

import hashlib
import reprlib
from collections.abc import Collection

import torch
from torch import Tensor, nn

AT_ONCE = 1 << 20
"""How many numbers are drawn at once."""


@torch.no_grad()
def initialise(model: nn.Module, layers: int, into_stream: Collection[str], seed: int) -> None:
    """Linear and embedding weights ~ N(0, 0.02²); biases 0; others as their module has its `start`, or 1.

    In a layer's groups `into_stream`, such as `attention.out`, weights are divided by sqrt(2 · layers).
    Each weight is drawn in float32 on the CPU from a generator seeded by its name, so device and dtype do not matter.
    In the layers the copies of a group are drawn alike: a model starts equal to its dense twin. Raises TypeError for a
    seed that is no whole number.
    """
    try:
        seed = seed.__index__()
    except (AttributeError, TypeError):
        raise TypeError(f"seed is {reprlib.repr(seed)}; it may be any whole number") from None
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias":
                parameter.zero_()
            elif not isinstance(module, nn.Linear | nn.Embedding) or hasattr(module, "start"):
                parameter.fill_(getattr(module, "start", 1.0))
            else:
                deviation = 0.02
                if path.startswith("layers."):
                    parent = path.rpartition(".")[0]
                    path = parent if isinstance(model.get_submodule(parent), nn.ModuleDict) else path
                    _, _, group = path.split(".", 2)
                    if group in into_stream:
                        deviation /= (2 * layers) ** 0.5
                fill_normal(parameter, f"{seed}:{path}", deviation)


def fill_normal(parameter: Tensor, key: str, deviation: float) -> None:
    """Normal float32 numbers, seeded by a text; some after the others, since they may be wider than the parameter.

    A multiple of sixteen at once, as torch draws, so that numbers do not depend on how many that are.
    """
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big")
    generator = torch.Generator().manual_seed(seed)
    numbers = parameter.view(-1) if parameter.is_contiguous() else parameter
    for some in torch.split(numbers, AT_ONCE):
        some.copy_(torch.empty(some.shape).normal_(0.0, deviation, generator=generator))
