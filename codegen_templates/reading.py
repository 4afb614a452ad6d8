"""Attention in which tokens of some modalities read others: their keys and values, through maps of the reader's own."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .attention import attend
from .cache import KeyValues
from .constants import constant
from .detached import attend_detached, detach_some
from .layout import Layout
from .masks import Matrix


class Reader(NamedTuple):
    """Modalities that read others, by their ids, and their maps of keys and values.

    `stopped` says of each modality whether it is read without gradient; of none if it is empty.
    """

    modalities: tuple[int, ...]
    key_map: nn.Module
    value_map: nn.Module
    stopped: tuple[bool, ...] = ()

    def read(self, k: Tensor, v: Tensor, modality_ids: Tensor) -> tuple[Tensor, Tensor]:
        """What it reads of keys and values [R, L, kv_heads, head_dim], in their shape."""
        if torch.is_grad_enabled():
            k, v = detach_some(self.stopped, modality_ids, k, v)
        keys, values = self.key_map(k.flatten(2)), self.value_map(v.flatten(2))
        return torch.unflatten(keys, 2, k.shape[2:]), torch.unflatten(values, 2, v.shape[2:])


def attend_reading(
    readers: tuple[Reader, ...],
    layout: Layout,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Matrix | None,
    cache: KeyValues | None = None,
    detached: tuple[tuple[bool, ...], ...] = (),
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """As `attend`, with keys and values of each reader's own for its queries; those it has itself are zeros.

    It is made once for each reader, and once for the others. `detached` is as for `attend_detached`.
    """
    if cache is not None:
        k, v = (x.transpose(1, 2) for x in cache.extended(k.transpose(1, 2), v.transpose(1, 2)))

    def found(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, mask, None, False, scale, softcap, sinks)

    ids = layout.rows.modality_ids
    mixed = attend_detached(found, detached, ids, q, k, v) if detached else found(q, k, v)
    for reader in readers:
        mine = torch.isin(ids, constant(reader.modalities, ids.device))[:, :, None]
        mixed = torch.where(mine, found(q, *reader.read(k, v, ids)), mixed)
    return mixed
