"""A prefix that sees all of itself."""

import torch
from torch import Tensor

from .constants import constant
from .mask_causal import Causal


class Prefix(Causal):
    """Causal, but a document's leading tokens of modalities in `prefix` see each other."""

    kernel = None

    def __init__(self, prefix: tuple[int, ...]) -> None:
        self.prefix = prefix

    def allows(self, modality_ids: Tensor, document_ids: Tensor | None, together: Tensor) -> Tensor:
        before = super().allows(modality_ids, document_ids, together)
        real = modality_ids >= 0
        others = real & ~torch.isin(modality_ids, constant(self.prefix, modality_ids.device))
        after_another = (together & before & others[:, None, :]).any(dim=2)
        leading = real & ~after_another
        return before | (leading[:, :, None] & leading[:, None, :])
