"""Modalities that do not see others."""

from torch import Tensor

from .constants import constant
from .masks import Mask


class Directed(Mask):
    """Another mask, of which tokens of modality i see those of j only if `sees[i][j]`."""

    def __init__(self, mask: Mask, sees: tuple[tuple[bool, ...], ...]) -> None:
        self.mask, self.prefix, self.runs, self.bidirectional = mask, mask.prefix, mask.runs, mask.bidirectional
        self.sees, self.delimited = sees, mask.delimited

    def allows(self, modality_ids: Tensor, document_ids: Tensor | None, together: Tensor) -> Tensor:
        may = constant(self.sees, modality_ids.device)[modality_ids[:, :, None], modality_ids[:, None, :]]
        return may & self.mask.allows(modality_ids, document_ids, together)

    def seen_by_next(self, modality_ids: Tensor, known: Tensor) -> Tensor | None:
        may = constant(self.sees, known.device)[modality_ids, known]
        within = self.mask.seen_by_next(modality_ids, known)
        return may if within is None else may & within
