"""Rotary positions of the last components of a head, of which keys have one for all heads (DeepSeek-V2)."""

from collections.abc import Callable

import torch
from torch import Tensor


def rotate_last(rotate: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, S, heads, head_dim], of which as many components are rotated as cosine and sine are for: two a pair."""
    size = 2 * cos.shape[-1]
    return torch.cat((x[..., :-size], rotate(x[..., -size:], cos, sin)), dim=-1)


def join_keys(own: Tensor, shared: Tensor) -> Tensor:
    """Keys of each head's own part [B, S, heads, m], and behind it the part [B, S, 1, n] that is one for all heads."""
    return torch.cat((own, shared.expand(-1, -1, own.shape[2], -1)), dim=-1)
