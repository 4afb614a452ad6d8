"""Modalities that attend to others alone, which have keys and values and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

from .constants import constant
from .masks import Mask


class Crossing(Mask):
    """Another mask, by which tokens of modality i see those of `reads[i]` alone.

    A token that sees none of these sees itself, whose key and value are zeros; so does a token without a query.
    """

    def __init__(self, mask: Mask, reads: tuple[tuple[int, ...], ...]) -> None:
        self.mask, self.window = mask, mask.window
        self.readers = tuple(modality for modality, read in enumerate(reads) if read)
        self.reads = tuple(tuple(other in read for other in range(len(reads))) for read in reads)
        self.runs, self.bidirectional, self.delimited = mask.runs, mask.bidirectional, mask.delimited
        self.prefix = mask.prefix

    def allows(self, modality_ids: Tensor, document_ids: Tensor | None, together: Tensor) -> Tensor:
        may = constant(self.reads, modality_ids.device)[modality_ids[:, :, None], modality_ids[:, None, :]]
        seen = may & together & self.mask.allows(modality_ids, document_ids, together)
        itself = torch.eye(modality_ids.shape[1], dtype=torch.bool, device=modality_ids.device)
        return seen | (itself & ~seen.any(dim=2, keepdim=True))

    def found(self, modality_ids: Tensor, visible: Tensor) -> Tensor:
        alone = visible.diagonal(dim1=1, dim2=2)
        return ~(alone & torch.isin(modality_ids, constant(self.readers, modality_ids.device)))

    def found_by_next(self, modality_ids: Tensor, known: Tensor, seen: Tensor | None) -> Tensor | None:
        reads = constant(self.reads, known.device)[modality_ids]
        read = reads.gather(2, known.clamp(min=0)[:, None].expand(-1, reads.shape[1], -1)) & (known >= 0)[:, None]
        finds = read if seen is None else read & seen[:, 0]
        return finds.any(dim=2) | ~reads.any(dim=2)

    def seen_by_next(self, modality_ids: Tensor, known: Tensor) -> Tensor | None:
        read = constant(self.reads, known.device)[modality_ids[:, 0]].gather(1, known.clamp(min=0)) & (known >= 0)
        within = self.mask.seen_by_next(modality_ids, known)
        seen = read if within is None else read & within
        number = (known >= 0).cumsum(dim=1)
        itself = (known >= 0) & (number == number[:, -1:])  # the last
        return seen | (itself & ~seen.any(dim=1, keepdim=True))
