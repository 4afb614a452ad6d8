"""Blocks of modalities, one after the other."""

from torch import Tensor

from .constants import constant
from .masks import Mask


class Blocks(Mask):
    """A token sees those whose modality is in its own block or in one before it."""

    def __init__(self, blocks: tuple[tuple[int, ...], ...]) -> None:
        self.rank = {modality: rank for rank, block in enumerate(blocks) for modality in block}

    def allows(self, modality_ids: Tensor, document_ids: Tensor | None, together: Tensor) -> Tensor:
        ranks = tuple(self.rank[modality] for modality in sorted(self.rank))
        rank = constant(ranks, modality_ids.device)[modality_ids]
        return rank[:, None, :] <= rank[:, :, None]
