"""Attention in rows of slots."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from .cache import KeyValues
from .sizes import not_empty


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, cache: KeyValues | None = None, causal: bool = True
) -> Tensor:
    """What queries [R, L, heads, head_dim] find, [R, L, heads * head_dim]; keys and values [R, L, kv_heads, head_dim].

    `mask` [R, 1, L, L] is added to the scores. Without one a token sees those before it if `causal`, else all; and of
    tokens that follow on others, whose keys and values `cache` has kept, each sees all.
    """
    q, k, v = not_empty(q).transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    causal = causal and mask is None
    if cache is not None:
        causal = causal and cache.cache.step is None
        k, v = cache.extended(k, v)
    gqa = q.shape[1] != k.shape[1]
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=gqa)
    return mixed.transpose(1, 2).flatten(2)
