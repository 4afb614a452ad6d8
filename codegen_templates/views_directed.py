"""Modalities that do not see others, in a call of attention for each set that is seen."""

from torch import Tensor

from .mask_directed import Directed
from .views import InViews, View, views_by_sight


class DirectedInViews(InViews, Directed):
    """`Directed`, where the mask within is causal or full."""

    def list_views(self, modality_ids: Tensor) -> list[View]:
        return views_by_sight(modality_ids, self.sees, causal=self.mask.kernel == "causal")
