"""Attention that reaches so far."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .masks import Mask


class Window(Mask):
    """Another mask, of which a token sees itself and what is less than `window` tokens before it in its document.

    What is after it is seen as the other mask has it, or if `both_ways` only less than `window` tokens away. Padding is
    not counted.
    """

    def __init__(self, mask: Mask, window: int, *, both_ways: bool = False) -> None:
        self.mask, self.window, self.reach, self.both_ways = mask, window, window, both_ways
        self.kernel, self.prefix, self.runs = mask.kernel, mask.prefix, mask.runs
        self.bidirectional, self.delimited = mask.bidirectional, mask.delimited

    def allows(self, modality_ids: Tensor, document_ids: Tensor | None, together: Tensor) -> Tensor:
        number = (modality_ids >= 0).cumsum(1)
        before = number[:, :, None] - number[:, None, :]
        near = (before.abs() if self.both_ways else before) < self.reach
        return near & self.mask.allows(modality_ids, document_ids, together)

    def seen_by_next(self, modality_ids: Tensor, known: Tensor) -> Tensor | None:
        within = self.mask.seen_by_next(modality_ids, known)
        if known.shape[1] <= self.reach:
            return within
        number = (known >= 0).cumsum(1)
        near = number[:, -1:] - number < self.reach
        return near if within is None else near & within

    def views(self, modality_ids: Tensor) -> Any:
        return self.mask.views(modality_ids)
