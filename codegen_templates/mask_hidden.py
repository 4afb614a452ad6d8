"""Spans of noised latents that only they themselves see."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .constants import constant
from .mask_bidirectional import in_one_run, runs_beside, unbroken_runs
from .masks import Mask, mask_sizes
from .sizes import mark_sizes


class HidesNoised(Mask):
    """Another mask, but a noised span of a modality in `hidden` is seen by its own tokens alone.

    Where the mask is `delimited`, those around it are its own too. Which spans are noised is told with a batch: until
    then, and when tokens are generated, it is the other mask.
    """

    hides_noised = True

    def __init__(self, mask: Mask, hidden: tuple[int, ...]) -> None:
        self.mask, self.hidden = mask, hidden
        self.prefix, self.runs, self.delimited = mask.prefix, mask.runs, mask.delimited
        self.bidirectional = mask.bidirectional

    def allows(self, modality_ids: Tensor, document_ids: Tensor | None, together: Tensor) -> Tensor:
        return self.mask.allows(modality_ids, document_ids, together)

    def seen_by_next(self, modality_ids: Tensor, known: Tensor) -> Tensor | None:
        return self.mask.seen_by_next(modality_ids, known)

    def shown(self, modality_ids: Tensor, document_ids: Tensor | None, noised: Tensor) -> Tensor:
        """Whether each token of a row may see each other for all that is noised, bool [R, L, L].

        modality_ids and document_ids are int64 [R, L]; `noised` bool [R, L]: which tokens are of noised spans.
        """
        number = unbroken_runs(modality_ids, document_ids)
        both_ways = torch.isin(modality_ids, constant(self.bidirectional, modality_ids.device))
        hidden = noised & torch.isin(modality_ids, constant(self.hidden, modality_ids.device))
        of_run = torch.zeros_like(number).scatter_reduce(1, number, hidden.to(number.dtype), "amax")
        within = both_ways[:, :, None] & (number[:, :, None] == number[:, None, :])
        beside = [torch.where(both_ways, number, -1)]
        if self.delimited:
            within = in_one_run(modality_ids, document_ids, number, both_ways)
            beside = runs_beside(modality_ids, document_ids, number, both_ways)
        unseen = torch.zeros_like(hidden)
        for run in beside:
            unseen = unseen | ((run >= 0) & (of_run.gather(1, run.clamp(min=0)) > 0))
        return within | ~unseen[:, None, :]

    def given_noised(self, rows: Any, document_ids: Tensor | None, noised: Tensor) -> Any:
        itself = torch.eye(noised.shape[1], dtype=torch.bool, device=noised.device)
        visible = rows.mask & (self.shown(rows.modality_ids, document_ids, noised) | itself)[:, None]
        if hasattr(rows.mask, "_dynamo_unbacked_indices"):
            mark_sizes(visible, *mask_sizes(None))
        return rows._replace(mask=visible)
