"""Attention in rows of slots."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from .cache import KeyValues
from .masks import Matrix
from .sizes import not_empty


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Matrix | None, cache: KeyValues | None = None, causal: bool = True
) -> Tensor:
    """What queries [R, L, heads, head_dim] find, [R, L, heads * head_dim]; keys and values [R, L, kv_heads, head_dim].

    Without a `mask` a token sees those before it if `causal`, else all; and tokens that follow on others, whose keys
    and values `cache` has kept, see all.

    Where a row may be several documents, NaN is taken out of keys and values, and tokens that see it are NaN
    afterwards: 0, the weight of what is not seen, times NaN is NaN.
    """
    q, k, v = not_empty(q).transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    causal = causal and mask is None
    if cache is not None:
        causal = causal and cache.takes_prompt
        k, v = cache.extended(k, v)
    gqa = q.shape[1] != k.shape[1]
    added, visible = (None, None) if mask is None else mask
    if visible is None:
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=added, is_causal=causal, enable_gqa=gqa)
    else:
        spoilt = (k.isnan() | v.isnan()).any(dim=3).any(dim=1)[:, None, :, None]  # [R, 1, L, 1]
        k, v = k.masked_fill(spoilt, 0.0), v.masked_fill(spoilt, 0.0)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=added, enable_gqa=gqa)
        mixed = mixed.masked_fill((visible & spoilt.mT).any(dim=3, keepdim=True), float("nan"))
    return mixed.transpose(1, 2).flatten(2)
