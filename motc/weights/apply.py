"""Tensors to parameters, and back: values are moved, never changed, so that each way undoes the other exactly."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, assert_never

from motc.weights.bijection import Bijection, Move

if TYPE_CHECKING:
    from torch import Tensor


def parameters_of(bijection: Bijection, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every parameter, or what there is one of for each, such as gradients. Raises ValueError if tied ones differ."""
    for name, other in bijection.tied.items():
        if not tensors[name].equal(tensors[other]):
            raise ValueError(f"{name} is not what {other} is, and the model ties them")
    parameters: dict[str, Tensor] = {}
    for move in bijection.moves:
        parameters.update(zip(move.parameters, forth(move, [tensors[name] for name in move.tensors]), strict=True))
    any_tensor = next(iter(parameters.values()))
    return parameters | {name: any_tensor.new_zeros(shape) for name, shape in bijection.zeros.items()}


def tensors_of(bijection: Bijection, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor that the parameters were made of, the repeated ones too."""
    tensors: dict[str, Tensor] = {}
    for move in bijection.moves:
        tensors.update(zip(move.tensors, back(move, [parameters[name] for name in move.parameters]), strict=True))
    return tensors | {name: tensors[other] for name, other in bijection.tied.items()}


def forth(move: Move, tensors: list[Tensor]) -> list[Tensor]:
    """The parameters that tensors of one move become."""
    import torch

    if move.transposed:
        tensors = list(map(_transposed, tensors))
    match move.form:
        case "same":
            return tensors
        case "repeated":
            first, *others = tensors
            if not all(each.equal(first) for each in others):
                raise ValueError(f"{move.tensors[0]} is not the same in every layer, and the model has it once")
            return [first]
        case "convolution":
            return [tensors[0].flatten(1) if tensors[0].ndim > 1 else tensors[0]]
        case "channels_last":
            return [_turned(tensors[0], move.dimension, (-1, *move.sizes))]
        case "rows":
            return list(torch.split(tensors[0], list(move.sizes)))
        case "columns":
            return list(torch.split(tensors[0], list(move.sizes), dim=-1))
        case "head_rows":
            by_head = torch.unflatten(tensors[0], 0, (-1, sum(move.sizes)))  # [heads, rows of all, ...]
            return [part.flatten(0, 1) for part in torch.split(by_head, list(move.sizes), dim=1)]
        case "expert_rows":
            return list(torch.split(tensors[0], list(move.sizes), dim=1))
        case "expert_turns":
            return list(torch.unflatten(tensors[0], 1, (-1, len(move.parameters))).unbind(2))
        case "stacked":
            return list(tensors[0].view(len(move.parameters), *tensors[0].shape[move.dimension + 1 :]).unbind())
        case "experts":
            following = iter(tensors)
            return [torch.stack(list(islice(following, size))) for size in move.sizes]
        case _:
            assert_never(move.form)


def back(move: Move, parameters: list[Tensor]) -> list[Tensor]:
    """The tensors that the parameters of one move were made of."""
    tensors = _put_together(move, parameters)
    return list(map(_transposed, tensors)) if move.transposed else tensors


def _transposed(tensor: Tensor) -> Tensor:
    """With its last two dimensions swapped, where it has two."""
    return tensor.mT if tensor.ndim > 1 else tensor


def _turned(tensor: Tensor, dimension: int, sizes: tuple[int, ...]) -> Tensor:
    """With what a dimension is cut into, two sizes, the other way round."""
    import torch

    return (
        torch.unflatten(tensor, dimension, sizes).transpose(dimension, dimension + 1).flatten(dimension, dimension + 1)
    )


def _put_together(move: Move, parameters: list[Tensor]) -> list[Tensor]:
    """The tensors, as they are cut."""
    import torch

    match move.form:
        case "same":
            return parameters
        case "repeated":
            return parameters * len(move.tensors)
        case "convolution":
            return [parameters[0].view(move.shape)]
        case "channels_last":
            return [_turned(parameters[0], move.dimension, (*move.sizes, -1))]
        case "rows":
            return [torch.cat(parameters)]
        case "columns":
            return [torch.cat(parameters, dim=-1)]
        case "head_rows":
            by_head = [torch.unflatten(each, 0, (-1, size)) for each, size in zip(parameters, move.sizes, strict=True)]
            return [torch.cat(by_head, dim=1).flatten(0, 1)]
        case "expert_rows":
            return [torch.cat(parameters, dim=1)]
        case "expert_turns":
            return [torch.stack(parameters, dim=2).flatten(1, 2)]
        case "stacked":
            stacked = torch.stack(parameters)
            return [stacked[None] if move.dimension else stacked]
        case "experts":
            return [expert for parameter in parameters for expert in parameter.unbind()]
        case _:
            assert_never(move.form)
