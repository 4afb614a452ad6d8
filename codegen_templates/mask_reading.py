"""Modalities that read others: they see these alone, and no token sees them."""

import torch
from torch import Tensor

from .constants import constant
from .masks import Mask


class Reading(Mask):
    """Two masks: tokens of modality i see those of `reads[i]` as `mask` has it, if they read some, and else as `others`
    has it, in which those that read take no part.

    Where a token sees none of those that it reads it sees itself, whose key and value are zeros.
    """

    def __init__(self, mask: Mask, others: Mask, reads: tuple[tuple[int, ...], ...]) -> None:
        self.mask, self.others = mask, others
        self.readers = tuple(modality for modality, read in enumerate(reads) if read)
        self.reads = tuple(tuple(other in read for other in range(len(reads))) for read in reads)
        self.window, self.runs, self.bidirectional = mask.window, mask.runs, mask.bidirectional
        self.delimited = mask.delimited
        self.prefix = tuple(modality for modality in others.prefix if modality not in self.readers)

    def allows(self, modality_ids: Tensor, document_ids: Tensor | None, together: Tensor) -> Tensor:
        may = constant(self.reads, modality_ids.device)[modality_ids[:, :, None], modality_ids[:, None, :]]
        seen = may & together & self.mask.allows(modality_ids, document_ids, together)
        itself = torch.eye(modality_ids.shape[1], dtype=torch.bool, device=modality_ids.device)
        read = seen | (itself & ~seen.any(dim=2, keepdim=True))
        reads = torch.isin(modality_ids, constant(self.readers, modality_ids.device))[:, :, None]
        return torch.where(reads, read, self.others.allows(modality_ids, document_ids, together))
