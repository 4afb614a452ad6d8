"""Each token sees all."""

import torch
from torch import Tensor

from .masks import Mask


class Full(Mask):
    """A token sees all tokens of its document."""

    kernel = "full"

    def allows(self, modality_ids: Tensor, document_ids: Tensor | None, together: Tensor) -> Tensor:
        return torch.ones_like(together)
