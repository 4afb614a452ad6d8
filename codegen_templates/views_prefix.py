"""A prefix mask in two calls of attention."""

import torch
from torch import Tensor

from .constants import constant
from .mask_prefix import Prefix
from .views import InViews, View


class PrefixInViews(InViews, Prefix):
    """`Prefix`: a document's leading tokens see each other, and the others all that came before."""

    def list_views(self, modality_ids: Tensor) -> list[View]:
        real = modality_ids >= 0
        may_lead = torch.isin(modality_ids, constant(self.prefix, modality_ids.device)) | ~real
        leading = real & (may_lead.cumprod(dim=1) > 0)
        return [View(leading, leading, causal=False), View(real & ~leading, None, causal=True)]
