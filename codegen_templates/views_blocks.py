"""Blocks, each in a call of attention."""

from torch import Tensor

from .mask_blocks import Blocks
from .views import InViews, View, views_by_sight


class BlocksInViews(InViews, Blocks):
    """`Blocks`: a view for each block, whose tokens see its own and those of the blocks before it."""

    def list_views(self, modality_ids: Tensor) -> list[View]:
        order = sorted(self.rank)
        sees = tuple(tuple(self.rank[seen] <= self.rank[modality] for seen in order) for modality in order)
        return views_by_sight(modality_ids, sees, causal=False)
