"""A prefix mask in two calls of attention."""

import torch
from torch import Tensor

from .constants import constant
from .mask_prefix import Prefix
from .views import Part, Views, make_views


class PrefixInViews(Prefix):
    """`Prefix`, cut into views: the leading tokens see each other, and the others all that came before."""

    def views(self, modality_ids: Tensor) -> Views | None:
        return make_views(modality_ids, self.parts(modality_ids))

    def parts(self, modality_ids: Tensor) -> list[Part]:
        """Of rows of one document each, int64 [R, L], -1 where there is no token."""
        real = modality_ids >= 0
        may_lead = torch.isin(modality_ids, constant(self.prefix, modality_ids.device)) | ~real
        leading = real & (may_lead.cumprod(dim=1) > 0)
        return [Part(leading, leading, causal=False), Part(real & ~leading, None, causal=True)]
