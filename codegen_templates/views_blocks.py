"""Blocks in a call of attention each."""

from torch import Tensor

from .mask_blocks import Blocks
from .views import Part, Views, make_views, parts_by_sight


class BlocksInViews(Blocks):
    """`Blocks`, cut into views."""

    def views(self, modality_ids: Tensor) -> Views | None:
        return make_views(modality_ids, self.parts(modality_ids))

    def parts(self, modality_ids: Tensor) -> list[Part]:
        """Of rows of one document each, int64 [R, L], -1 where there is no token."""
        order = sorted(self.rank)
        sees = tuple(tuple(self.rank[seen] <= self.rank[modality] for seen in order) for modality in order)
        return parts_by_sight(modality_ids, sees, causal=False)
