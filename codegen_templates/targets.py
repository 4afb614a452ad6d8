"""The targets of the next-token loss."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .permute import permute
from .sizes import mark_numbers, mark_sizes
from .tokens import invert, look_up


class Targets(NamedTuple):
    """The token that each place of the stream is to predict; -1 where there is none."""

    ids: Tensor  # int64, one for each place of the stream
    modality_ids: Tensor  # as `ids`: the target's modality
    weights: Tensor | None  # as `ids`: how much the target counts; None: each counts 1
    counts: Tensor  # int64 [M]: how many targets each modality has
    totals: Tensor  # [M]: the sum of their weights

    def mark_sizes(self) -> None:
        """Tell the compiler which sizes vary."""
        for x in (self.ids, self.modality_ids, self.weights):
            if x is not None:
                mark_numbers(x)


def find_targets(
    labels: Tensor,
    weights: Tensor | None,
    modality_ids: Tensor,
    document_ids: Tensor | None,
    tokens: Tensor,
    count: int,
) -> Targets:
    """The targets of a stream whose places hold these `tokens` of the flattened batch, [N] or [R, L] (-1: none).

    A token's target is the label of the token after it. It counts if both tokens are real and of one document, the
    label is not negative and its weight is not 0. `count` is the number of modalities; the others are [B, S].
    """
    counts = (modality_ids[:, 1:] >= 0) & (modality_ids[:, :-1] >= 0) & (labels[:, 1:] >= 0)
    if document_ids is not None:
        counts = counts & (document_ids[:, 1:] == document_ids[:, :-1])
    if weights is not None:
        counts = counts & (weights[:, 1:] > 0)
    following = torch.full_like(modality_ids, -1)
    index = torch.arange(modality_ids.numel(), device=modality_ids.device).view_as(modality_ids)
    following[:, :-1] = torch.where(counts, index[:, 1:], -1)
    following = look_up(following.flatten(), tokens, -1)
    modalities = look_up(modality_ids.flatten(), following, -1)
    each = torch.arange(count, device=modalities.device)[:, None] == modalities.flatten()
    ids, numbers = look_up(labels.flatten(), following, -1), each.sum(1)
    if weights is None:
        return Targets(ids, modalities, None, numbers, numbers)
    wide = weights.to(torch.promote_types(weights.dtype, torch.float32))
    shares = look_up(wide.flatten(), following, 0)
    return Targets(ids, modalities, shares, numbers, torch.where(each, shares.flatten(), 0).sum(1))


class TargetOrder(NamedTuple):
    """The stream's places sorted by the modality they predict, those that predict nothing last.

    All but `pieces` have the stream's shape, [N] or [R, L], for the compiler's sake; they are read as if it were [N].
    """

    order: Tensor  # int64: the place of the stream that comes i-th
    inverse: Tensor  # int64: where in `order` each place is
    ids: Tensor  # int64: the targets in this order
    weights: Tensor | None  # their weights in this order
    pieces: tuple[Tensor, ...]  # one [n] for each modality, as long as it has targets; only the length means anything

    def cut(self, x: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor | None]]:
        """The states [n, w] that are to predict each modality, of x [N, w], the targets' ids and their weights.

        What predicts nothing comes last.
        """
        states = permute(x, self.order.flatten(), self.inverse.flatten(), gaps=(False, False))
        sizes = [piece.shape[0] for piece in self.pieces]
        torch._check(sum(sizes) <= x.shape[0])  # type: ignore[no-untyped-call]
        sizes.append(x.shape[0] - sum(sizes))
        weights: list[Tensor | None] = [None for _ in sizes]
        if self.weights is not None:
            weights = [*torch.split(self.weights.flatten(), sizes)]
        return list(torch.split(states, sizes)), list(torch.split(self.ids.flatten(), sizes)), weights

    def mark_sizes(self) -> None:
        """Tell the compiler which sizes vary."""
        for x in (self.order, self.inverse, self.ids, self.weights):
            if x is not None:
                mark_numbers(x)
        for x in self.pieces:
            mark_sizes(x, "piece")


def sort_targets(targets: Targets) -> TargetOrder:
    """The order by which each head is given its own modality's targets alone. Reads sizes back from the device."""
    key = targets.modality_ids.flatten()
    order = torch.argsort(torch.where(key >= 0, key, targets.counts.numel()), stable=True)
    sizes = targets.counts.tolist()
    pieces = tuple(torch.empty_like(piece) for piece in torch.split(order[: sum(sizes)], sizes))
    shape = targets.ids.shape
    ids = targets.ids.flatten()[order].view(shape)
    weights = None if targets.weights is None else targets.weights.flatten()[order].view(shape)
    return TargetOrder(order.view(shape), invert(order, order.numel()).view(shape), ids, weights, pieces)


def weights_of_pieces(weights: Tensor | None, cut: Callable[[Tensor], list[Tensor]], count: int) -> list[Tensor | None]:
    """The weights of each of `count` pieces that targets are cut into; None for each where all count 1."""
    return [None] * count if weights is None else [*cut(weights)]
