"""Modalities that a layer's attention leaves out."""

from typing import Any

import torch
from torch import Tensor

from .constants import constant
from .masks import Mask


class Absent(Mask):
    """Another mask, in which tokens of modalities in `absent` take no part: to all others they are as padding.

    Such a token sees itself alone, so that what is computed for it is a number; nothing reads it.
    """

    def __init__(self, mask: Mask, absent: tuple[int, ...]) -> None:
        self.mask, self.absent, self.window = mask, absent, mask.window
        self.runs, self.bidirectional, self.delimited = mask.runs, mask.bidirectional, mask.delimited
        self.prefix = (*mask.prefix, *absent) if mask.prefix else ()  # which they do not end

    def present(self, modality_ids: Tensor) -> Tensor:
        """The ids, -1 in place of those that take no part."""
        return modality_ids.masked_fill(torch.isin(modality_ids, constant(self.absent, modality_ids.device)), -1)

    def allows(self, modality_ids: Tensor, document_ids: Tensor | None, together: Tensor) -> Tensor:
        ids = self.present(modality_ids)
        real = ids >= 0
        both = real[:, :, None] & real[:, None, :]
        itself = torch.eye(ids.shape[1], dtype=torch.bool, device=ids.device)
        return itself | (both & self.mask.allows(ids, document_ids, together & both))

    def chunks(self, modality_ids: Tensor, document_ids: Tensor | None, reads: bool) -> tuple[Any, Tensor] | None:
        return self.mask.chunks(self.present(modality_ids), document_ids, reads)

    def seen_by_next(self, modality_ids: Tensor, known: Tensor) -> Tensor | None:
        ids = self.present(known)
        within = self.mask.seen_by_next(self.present(modality_ids), ids)
        number = (known >= 0).cumsum(dim=1)
        itself = (known >= 0) & (number == number[:, -1:])  # the last
        return itself | (ids >= 0 if within is None else within & (ids >= 0))
