"""Runs of tokens that see all of themselves."""

import torch
from torch import Tensor

from .constants import constant
from .masks import Mask
from .tokens import token_before


class Bidirectional(Mask):
    """Another mask, but an unbroken run sees all of itself: of a modality in `bidirectional`, or of those of `runs`.

    If it is `delimited`, the tokens before and after it in its document, which are in no such run, are in it too.
    """

    def __init__(
        self,
        mask: Mask,
        bidirectional: tuple[int, ...],
        runs: tuple[tuple[int, ...], ...] = (),
        *,
        delimited: bool = False,
    ) -> None:
        self.mask, self.prefix, self.runs, self.delimited = mask, mask.prefix, runs, delimited
        self.bidirectional = (*bidirectional, *(modality for run in runs for modality in run))

    def allows(self, modality_ids: Tensor, document_ids: Tensor | None, together: Tensor) -> Tensor:
        ids = modality_ids
        for run in self.runs:
            ids = torch.where(torch.isin(ids, constant(run, ids.device)), run[0], ids)
        number = unbroken_runs(ids, document_ids)
        both_ways = torch.isin(modality_ids, constant(self.bidirectional, modality_ids.device))
        if self.delimited:
            within = in_one_run(ids, document_ids, number, both_ways)
        else:
            within = both_ways[:, :, None] & (number[:, :, None] == number[:, None, :])
        return within | self.mask.allows(modality_ids, document_ids, together)

    def seen_by_next(self, modality_ids: Tensor, known: Tensor) -> Tensor | None:
        return self.mask.seen_by_next(modality_ids, known)


def in_one_run(modality_ids: Tensor, document_ids: Tensor | None, number: Tensor, both_ways: Tensor) -> Tensor:
    """Whether two tokens of a row are in one of its runs, or delimit it, bool [R, L, L].

    `number` int64 [R, L] are those of runs; `both_ways` bool [R, L]: which tokens are in runs that see themselves.
    """
    numbers = runs_beside(modality_ids, document_ids, number, both_ways)
    within = torch.zeros_like(number[:, :, None] == number[:, None, :])
    for mine in numbers:
        for other in numbers:
            within = within | ((mine[:, :, None] == other[:, None, :]) & (mine >= 0)[:, :, None])
    return within


def runs_beside(modality_ids: Tensor, document_ids: Tensor | None, number: Tensor, both_ways: Tensor) -> list[Tensor]:
    """Two runs that each token is in or delimits, by their numbers, int64 [R, L]; -1: none."""
    own = torch.where(both_ways, number, -1)  # the number of the run a token is in, or that it closes, or opens
    before = token_before(modality_ids)
    after = modality_ids.shape[1] - 1 - token_before(modality_ids.flip(1)).flip(1)
    real, numbers = modality_ids >= 0, []
    for beside in (before, after):
        there = (beside >= 0) & (beside < modality_ids.shape[1])
        at = beside.clamp(0, modality_ids.shape[1] - 1)
        if document_ids is not None:
            there = there & (document_ids == document_ids.gather(1, at))
        delimits = real & ~both_ways & there
        numbers.append(torch.where(delimits, own.gather(1, at), own))
    return numbers


def unbroken_runs(modality_ids: Tensor, document_ids: Tensor | None) -> Tensor:
    """A number for each run of tokens of one modality and document that follow one another, int64 [R, L].

    Places without a token (modality -1) break no run, and have a number that means nothing.
    """
    real, before = modality_ids >= 0, token_before(modality_ids)
    place = torch.arange(modality_ids.shape[1], device=modality_ids.device)
    before = torch.where(before >= 0, before, place)  # the first token of a row has none before it
    starts = modality_ids != modality_ids.gather(1, before)
    if document_ids is not None:
        starts = starts | (document_ids != document_ids.gather(1, before))
    return (starts & real).cumsum(dim=1)
