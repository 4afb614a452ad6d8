"""Each token sees those before it."""

from typing import Literal

import torch
from torch import Tensor

from .masks import Mask


class Causal(Mask):
    """A token sees itself and none after it."""

    kernel: Literal["causal", "full"] | None = "causal"

    def allows(self, modality_ids: Tensor, document_ids: Tensor | None, together: Tensor) -> Tensor:
        place = torch.arange(modality_ids.shape[1], device=modality_ids.device)
        return (place <= place[:, None])[None]
