"""Attention in views, without gradient to what some of them read: it is made no more often than with gradient."""

import torch
from torch import Tensor

from .cache import KeyValues
from .detached import attend_detached, detach_some
from .masks import Matrix
from .sizes import not_empty
from .views import Views, attend_by_views, attend_in_views


def attend_in_views_detached(
    asking: tuple[int, ...],
    detached: tuple[tuple[bool, ...], ...],
    modality_ids: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Matrix | None,
    views: Views | None,
    cache: KeyValues | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """As `attend_detached` with `attend_in_views`, where all tokens of a view read the same detached.

    asking[i] is a modality of those that view i has the tokens of.
    """
    if views is None or cache is not None or not torch.is_grad_enabled():
        given = (mask, views, cache, scale, softcap, sinks)
        return attend_detached(attend_in_views, detached, modality_ids, q, k, v, *given)
    read = [detach_some(detached[modality], modality_ids, k, v) for modality in asking]
    return attend_by_views(not_empty(q), read, views, scale, softcap, sinks).flatten(2)
