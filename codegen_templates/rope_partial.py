"""Rotary positions of the first components of a head, as GPT-NeoX and Phi have them."""

from collections.abc import Callable

import torch
from torch import Tensor


def rotate_first(rotate: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, S, heads, head_dim], of which as many components are rotated as cosine and sine are for: two a pair."""
    size = 2 * cos.shape[-1]
    return torch.cat((rotate(x[..., :size], cos, sin), x[..., size:]), dim=-1)
