"""Modalities that see some modalities, in a call of attention for each set that is seen."""

from torch import Tensor

from .mask_directed import Directed
from .views import Part, Views, make_views, parts_by_sight


class DirectedInViews(Directed):
    """`Directed`, of a causal or a full mask, cut into views."""

    def views(self, modality_ids: Tensor) -> Views | None:
        return make_views(modality_ids, self.parts(modality_ids))

    def parts(self, modality_ids: Tensor) -> list[Part]:
        """Of rows of one document each, int64 [R, L], -1 where there is no token."""
        return parts_by_sight(modality_ids, self.sees, causal=self.mask.kernel == "causal")
