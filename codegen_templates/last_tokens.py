"""The last tokens of prompts: only of these logits are made."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .constants import on_device
from .tokens import invert


class LastTokens(NamedTuple):
    """The last token of each row of a batch, and these as a batch of their own."""

    tokens: Tensor  # int64 [B]: of the flattened batch
    layout: Any  # of their modalities, int64 [B, 1]

    def of(self, x: Tensor | list[Tensor], layout: Any) -> Any:
        """The stream of these tokens, from the whole batch's, which has this layout."""
        places = self.tokens if layout.batch is None else layout.batch.flatten()[self.tokens]
        chosen = places[self.layout.tokens]
        if isinstance(x, Tensor):
            return x.flatten(0, -2)[chosen]
        if x[0].ndim == 3:  # branches, each of which has all slots
            return [branch.flatten(0, -2)[chosen] for branch in x]
        if layout.tokens.ndim == 2:  # slots, whose tokens are sorted only in pieces
            order = layout.places.flatten().argsort(stable=True)
            chosen = invert(order, order.numel())[chosen]
        pieces = []
        for piece in x:
            inside = (chosen >= 0) & (chosen < piece.shape[0])
            pieces.append(piece[chosen[inside]])
            chosen = chosen - piece.shape[0]
        return pieces


def last_tokens(model: Any, modality_ids: Tensor, lengths: list[int]) -> LastTokens:
    """The last of so many tokens that each row of a batch, int64 [B, S], begins with."""
    last = on_device([length - 1 for length in lengths], modality_ids.device)[:, None]
    rows = torch.arange(len(lengths), device=last.device)
    return LastTokens(rows * modality_ids.shape[1] + last[:, 0], model.layout(modality_ids.gather(1, last)))
