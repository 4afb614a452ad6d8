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
        keys, values = k, v
        if any(stopped):
            is_stopped = constant((*stopped, False), modality_ids.device)[modality_ids][:, :, None, None]
            keys, values = (torch.where(is_stopped, x.detach(), x) for x in (k, v))
        result = attention(q, keys, values, *given, **named)
        reads_so = constant((*(each == stopped for each in detached), False), modality_ids.device)[modality_ids]
        mixed = result if mixed is None else torch.where(reads_so[:, :, None], result, mixed)
    assert mixed is not None, "there is a modality"
    return mixed
