"""Attention that some tokens pay without gradient to those they read."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .constants import constant


def attend_detached(
    attention: Callable[..., Tensor],
    detached: tuple[tuple[bool, ...], ...],
    modality_ids: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *given: Any,
    **named: Any,
) -> Tensor:
    """attention(q, k, v, ...), to the bit, whose gradient does not reach keys and values that are read `detached`.

    detached[i][j]: whether tokens of modality i read those of j so; modality_ids int64 [R, L], -1 where there is none.
    With gradients attention is made once for each set of modalities that is read so, and each token has its own.
    """
    if not torch.is_grad_enabled():
        return attention(q, k, v, *given, **named)
    mixed = None
    for stopped in dict.fromkeys(detached):
        result = attention(q, *detach_some(stopped, modality_ids, k, v), *given, **named)
        reads_so = constant((*(each == stopped for each in detached), False), modality_ids.device)[modality_ids]
        mixed = result if mixed is None else torch.where(reads_so[:, :, None], result, mixed)
    assert mixed is not None, "there is a modality"
    return mixed


def detach_some(stopped: tuple[bool, ...], modality_ids: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values [R, L, kv_heads, head_dim] without gradient where their modality is `stopped`."""
    if not any(stopped):
        return k, v
    is_stopped = constant((*stopped, False), modality_ids.device)[modality_ids][:, :, None, None]
    return torch.where(is_stopped, k.detach(), k), torch.where(is_stopped, v.detach(), v)
