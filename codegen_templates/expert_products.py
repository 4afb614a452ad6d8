"""Experts' products as operations of a graph that is compiled for a CPU, where torch has its own in bfloat16 alone.

They are registered with torch once in a program, however many models it has.
"""

from typing import Any

import torch
from torch import Tensor


def piecewise_products(x: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """Tokens [n, in], those of expert 0 first, by weights [E, in, out]; expert i's tokens end at `ends[i]`, int32."""
    y, start = x.new_empty(x.shape[0], weights.shape[2]), 0
    for weight, end in zip(weights.unbind(), ends.tolist(), strict=True):
        torch.mm(x[start:end], weight, out=y[start:end])
        start = end
    return y


def piecewise_gradients(x: Tensor, gradients: Tensor, ends: Tensor) -> Tensor:
    """The gradients [E, in, out] of weights: for each expert its tokens [n, in] times their gradients [n, out]."""
    y, start = x.new_empty(ends.shape[0], x.shape[1], gradients.shape[1]), 0
    for weight, end in zip(y.unbind(), ends.tolist(), strict=True):
        torch.mm(x[start:end].t(), gradients[start:end], out=weight)
        start = end
    return y


def keep_for_gradients(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def gradients_of_products(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
    x, weights, ends = ctx.saved_tensors
    of_x = torch.ops.motc.expert_products(gradient, weights.transpose(1, 2), ends)
    return of_x, torch.ops.motc.expert_gradients(x, gradient, ends), None


if not hasattr(torch.ops.motc, "expert_products"):
    products = torch.library.custom_op("motc::expert_products", piecewise_products, mutates_args=())
    products.register_fake(lambda x, weights, ends: x.new_empty(x.shape[0], weights.shape[2]))
    products.register_autograd(gradients_of_products, setup_context=keep_for_gradients)
    weighted = torch.library.custom_op("motc::expert_gradients", piecewise_gradients, mutates_args=())
    weighted.register_fake(lambda x, gradients, ends: x.new_empty(ends.shape[0], x.shape[1], gradients.shape[1]))


def expert_products(x: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """What `piecewise_products` makes, as one operation of a graph."""
    y: Tensor = torch.ops.motc.expert_products(x, weights, ends)
    return y
