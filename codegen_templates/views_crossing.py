"""Modalities that attend to others alone, in a call of attention for each."""

from __future__ import annotations

from torch import Tensor

from .constants import constant
from .mask_crossing import Crossing
from .masks import Mask
from .views import InViews, View, Views


class CrossingInViews(InViews, Crossing):
    """`Crossing`: a view for each modality that attends.

    `behind`: a token sees what comes before it alone. There are views where all that it attends to does, and is
    something.
    """

    def __init__(self, mask: Mask, reads: tuple[tuple[int, ...], ...], *, behind: bool = False) -> None:
        super().__init__(mask, reads)
        self.behind = behind

    def list_views(self, modality_ids: Tensor) -> list[View]:
        return [View(modality_ids == each, self.read_by(each, modality_ids), causal=False) for each in self.readers]

    def read_by(self, modality: int, modality_ids: Tensor) -> Tensor:
        """Which tokens a modality attends to, bool [R, L]."""
        return constant((*self.reads[modality], False), modality_ids.device)[modality_ids]

    def views(self, modality_ids: Tensor) -> Views | None:
        for modality in self.readers:
            mine, read = modality_ids == modality, self.read_by(modality, modality_ids)
            wrong = mine.any(dim=1) & ~read.any(dim=1)  # it would find none
            if self.behind:
                wrong = wrong | (mine.cummax(dim=1).values & read).any(dim=1)
            if bool(wrong.any()):
                return None
        return super().views(modality_ids)
