"""Modalities that a layer's attention leaves out, the others in calls of attention."""

from torch import Tensor

from .mask_absent import Absent
from .views import InViews, View


class AbsentInViews(InViews, Absent):
    """`Absent`: the views of the mask within, among the tokens that take part."""

    def list_views(self, modality_ids: Tensor) -> list[View]:
        ids = self.present(modality_ids)
        real = ids >= 0
        if not isinstance(self.mask, InViews):
            return [View(real, real, causal=self.mask.kernel == "causal")]
        return [
            View(tokens, real if seen is None else seen, causal) for tokens, seen, causal in self.mask.list_views(ids)
        ]
