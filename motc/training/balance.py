"""Which documents each rank has in each step, so that ranks have as much of every modality to do as the others."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

WINDOW = 16
"""Steps that are made even among themselves: of more, a document could come much earlier or later than by chance."""


def balance(
    counts: Tensor, *, tokens: int, ranks: int = 1, rank: int = 0, seed: int = 0, first: int = 0
) -> Iterator[list[int]]:
    """For each step from `first` on, without end, the indices of a rank's documents: a DataLoader's `batch_sampler`.

    `counts`, int64 [documents, modalities], has each document's tokens. A rank has no more than `tokens` of them in a
    step. Within each 16 steps documents go, the largest first, where there is least of what they have: tokens of each
    modality, and the square of their length, which attention's work grows by. All documents come once before any comes
    again, but fewer than `ranks` that are left at the end; the order follows from the seed. What a step has follows
    from the arguments and its number, so that this is all of a sampler's state. Raises ValueError.
    """
    lengths = _checked(counts, tokens, ranks, rank)
    loads = torch.cat((counts, lengths.square().unsqueeze(1)), 1).double()
    loads = loads[:, loads.sum(0) > 0]
    loads /= loads.mean(0)
    return _steps(loads, lengths, tokens, ranks, rank, seed, first)


def _checked(counts: Tensor, tokens: int, ranks: int, rank: int) -> Tensor:
    """Each document's length. Raises ValueError."""
    if counts.ndim != 2 or counts.dtype.is_floating_point or (counts < 0).any():
        raise ValueError(
            f"counts are {counts.dtype} {[*counts.shape]}; they are numbers [documents, modalities] from 0"
        )
    if ranks < 1 or not 0 <= rank < ranks:
        raise ValueError(f"rank is {rank}, of {ranks} ranks: it is from 0 to {max(ranks - 1, 0)}")
    if len(counts) < ranks:
        raise ValueError(f"{len(counts)} documents are not one for each of {ranks} ranks")
    lengths = counts.long().sum(1)
    for what, wrong in (("no token", lengths == 0), (f"more than the {tokens} of a step", lengths > tokens)):
        if wrong.any():
            index = int(wrong.nonzero()[0])
            raise ValueError(f"document {index} has {what}: {int(lengths[index])}")
    return lengths


def _steps(
    loads: Tensor, lengths: Tensor, tokens: int, ranks: int, rank: int, seed: int, first: int
) -> Iterator[list[int]]:
    number, epoch = 0, 0
    while True:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        waiting = torch.randperm(len(lengths), generator=generator)
        while len(waiting) >= ranks:
            total = lengths[waiting].cumsum(0)
            taken = int((total <= WINDOW * ranks * tokens).sum())
            window, later = waiting[:taken], waiting[taken:]
            steps = min(-(-int(total[taken - 1]) // (ranks * tokens)), taken // ranks)
            bins, left = _spread(loads[window], lengths[window], tokens, steps * ranks)
            for step in torch.randperm(steps, generator=generator).tolist():
                if number >= first:
                    yield window[bins[step * ranks + rank]].tolist()
                number += 1
            waiting = torch.cat((window[left], later))
        epoch += 1


def _spread(loads: Tensor, lengths: Tensor, tokens: int, bins: int) -> tuple[list[list[int]], list[int]]:
    """Documents in bins of so many tokens: the largest first, each where it makes the sum of squared loads least.

    And those that no bin has room for.
    """
    filled, room = loads.new_zeros(bins, loads.shape[1]), torch.full((bins,), tokens)
    chosen: list[list[int]] = [[] for _ in range(bins)]
    left, vectors, sizes = [], loads.unbind(), lengths.tolist()
    for index in loads.square().sum(1).argsort(descending=True, stable=True).tolist():
        place = int((filled @ vectors[index]).masked_fill(room < sizes[index], torch.inf).argmin())
        if room[place] < sizes[index]:
            left.append(index)
            continue
        chosen[place].append(index)
        filled[place] += vectors[index]
        room[place] -= sizes[index]
    return chosen, left
