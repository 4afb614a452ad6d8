"""Attention in rows of slots."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .cache import KeyValues
from .masks import Matrix
from .row_ranks import attend_over_heads, row_ranks
from .sizes import exporting, not_empty

MORE = 8
"""Numbers that heads have more with sinks: what kernels want is a multiple of it."""


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Matrix | None,
    cache: KeyValues | None = None,
    causal: bool = True,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """What queries [R, L, heads, head_dim] find, [R, L, heads * value_dim].

    Keys are [R, L, kv_heads, head_dim], values [R, L, kv_heads, value_dim].

    Without a `mask` a token sees those before it if `causal`, else all; and tokens that follow on others, whose keys
    and values `cache` has kept, see all. `scale` and `softcap` as in `weighed`, and `sinks` [R, L, heads].

    Where a row may be several documents, NaN is taken out of keys and values, and tokens that see it are NaN
    afterwards: 0, the weight of what is not seen, times NaN is NaN. A mask of chunks of rows is attention in these.
    """
    ranks = row_ranks()
    if ranks is not None:

        def in_rows(q: Tensor, read: Sequence[tuple[Tensor, Tensor]], sinks: Tensor | None) -> Tensor:
            return attend(q, *read[0], mask, None, causal, scale, softcap, sinks)

        return attend_over_heads(in_rows, ranks, q, [(k, v)], sinks)
    if cache is not None:
        causal = causal and cache.takes_prompt
        k, v = (x.transpose(1, 2) for x in cache.extended(k.transpose(1, 2), v.transpose(1, 2)))
    if mask is not None and mask.chunks is not None:
        mixed: Tensor = mask.chunks.attend(attend, q, k, v, mask._replace(chunks=None), scale, softcap, sinks)
        return mixed
    q, causal = not_empty(q).transpose(1, 2), causal and mask is None
    sinks = None if sinks is None else sinks.transpose(1, 2)
    added, visible = (None, None) if mask is None else mask[:2]
    if visible is None:
        mixed = weighed(q, k.transpose(1, 2), v.transpose(1, 2), added, causal, scale, softcap, sinks).transpose(1, 2)
    else:  # by slots: a compiled copy with heads first, and but one of them, is taken for an image with channels last
        spoilt = k.isnan().flatten(2).any(dim=2) | v.isnan().flatten(2).any(dim=2)  # [R, T]
        k, v = (x.masked_fill(spoilt[:, :, None, None], 0.0) for x in (k, v))
        mixed = weighed(q, k.transpose(1, 2), v.transpose(1, 2), added, False, scale, softcap, sinks).transpose(1, 2)
        mixed = mixed.masked_fill((visible & spoilt[:, None, None]).any(dim=3).mT[..., None], float("nan"))
    return mixed.flatten(2)


def weighed(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    added: Tensor | None,
    causal: bool,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """softmax(scores + added) v, the scores being scale · q kᵀ, or softcap · tanh(scale · q kᵀ / softcap).

    q [R, heads, L, head_dim], keys [R, kv_heads, T, head_dim] and values [R, kv_heads, T, value_dim], each for heads /
    kv_heads heads that follow one another. `added` [R, 1, L, T]; if `causal` the first query sees the first key, and
    each one more. `scale` is 1 / sqrt(head_dim) if not given. `sinks` [R, heads, L] are a score more of each query,
    whose value is zeros. torch has no kernel with a soft-cap: with one, all scores are in memory at once.
    """
    usual = scale or q.shape[3] ** -0.5
    if softcap is not None:
        return plain_attention(q, k, v, added, causal, usual, softcap, sinks)
    if sinks is None:
        return fused_attention(q, k, v, added, causal, scale)
    if not torch.compiler.is_compiling() and q.shape[2] == 1:  # few scores, for which all keys would be copied
        return plain_attention(q, k, v, added, causal, usual, None, sinks)
    return with_sinks(q, k, v, added, causal, usual, sinks)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, added: Tensor | None, causal: bool, scale: float | None) -> Tensor:
    """As `weighed`, by torch's kernels, of which those that never have all scores want head_dim and value_dim equal."""
    head_dim, value_dim, gqa = q.shape[3], v.shape[3], q.shape[1] != k.shape[1]
    if head_dim == value_dim:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=added, is_causal=causal, scale=scale, enable_gqa=gqa)
    q, k, v = (F.pad(x, (0, max(head_dim, value_dim) - x.shape[3])) for x in (q, k, v))
    return fused_attention(q, k, v, added, causal, scale or head_dim**-0.5)[..., :value_dim]


def plain_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    added: Tensor | None,
    causal: bool,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """As `weighed`, written out.

    Compiled, it has a query and a key more, which nobody sees: Inductor asks of products whether there is but one. And
    kv_heads come first: the compiler takes rows of a single head for an image with channels last.
    """
    (heads, length, _), kv_heads = q.shape[1:], k.shape[1]
    padded = torch.compiler.is_compiling() and not exporting()
    q = torch.unflatten(q, 1, (kv_heads, heads // kv_heads)).transpose(0, 1)  # [kv_heads, R, sharing, L, head_dim]
    k, v = k.transpose(0, 1), v.transpose(0, 1)
    if padded:
        q, k, v = (F.pad(x, (0, 0, 0, 1)) for x in (q, k, v))
        added = None if added is None else F.pad(added, (0, 1, 0, 1))
    sharing, keys = q.shape[2:4], torch.arange(k.shape[2], device=k.device)
    scores = torch.unflatten(q.flatten(2, 3) @ k.mT, 2, sharing) * scale  # [kv_heads, R, sharing, L, T]
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if causal:
        scores = scores.masked_fill(torch.arange(sharing[1], device=q.device)[:, None] < keys, -torch.inf)
    if added is not None:
        scores = scores + added
    if padded:
        scores = scores.masked_fill(keys == keys.shape[0] - 1, -torch.inf)
    if sinks is not None:
        sinks = torch.unflatten(sinks, 1, (kv_heads, heads // kv_heads)).transpose(0, 1)
        sinks = F.pad(sinks, (0, 1)) if padded else sinks
        scores = torch.cat((scores, sinks[..., None].to(scores)), dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(q.dtype)
    weights = weights if sinks is None else weights[..., :-1]
    mixed = torch.unflatten(weights.flatten(2, 3) @ v, 2, sharing)[:, :, :, :length]
    return mixed.transpose(0, 1).flatten(1, 2)


def with_sinks(
    q: Tensor, k: Tensor, v: Tensor, added: Tensor | None, causal: bool, scale: float, sinks: Tensor
) -> Tensor:
    """As `weighed`, with sinks [R, heads, L] of the queries.

    They are scores of a key more, whose values are zeros: it is 1 in a component that other keys lack, and in which
    queries have their sink. So torch's kernels do it. The key stands first; if `causal`, so does a query that sees it
    alone and is not asked, for then the first query sees the first key, and each one more.
    """
    head_dim, value_dim, first = q.shape[3], v.shape[3], int(causal)
    q = F.pad(torch.cat((q, (sinks / scale).to(q.dtype)[..., None]), dim=3), (0, MORE - 1, first, 0))
    sink = F.pad(k.new_ones(k.shape[0], k.shape[1], 1, 1), (head_dim, MORE - 1))
    k, v = torch.cat((sink, F.pad(k, (0, MORE))), dim=2), F.pad(v, (0, MORE, 1, 0))
    added = None if added is None else F.pad(added, (1, 0))
    return fused_attention(q, k, v, added, causal, scale)[:, :, first:, :value_dim]
