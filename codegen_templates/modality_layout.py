"""Where each token of a batch lies in the stream, and the way there and back."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class ModalityLayout(NamedTuple):
    """A batch's tokens sorted by modality, padding last. Made once a batch, outside any graph."""

    modality_ids: Tensor  # int64 [B, S], -1 at padding
    document_ids: Tensor | None  # int64 [B, S], or None: each row is one document
    positions: Tensor  # int64 [B, S], from 0 in each document
    order: Tensor  # int64 [B * S]: which token of the flattened sequence stands at each place of the stream
    inverse: Tensor  # int64 [B * S]: at which place of the stream each token of the flattened sequence stands
    sizes: tuple[int, ...]  # tokens of each modality, in the stream's order
    parts: tuple[int, ...]  # tokens of each part of the stream
    padding: int  # places at the end of `order` that hold padding
    mask: Tensor | None  # bool [B, 1, S, S], who sees whom; None: the plain mask over whole rows


def make_layout(
    modality_ids: Tensor, document_ids: Tensor | None, parts: tuple[tuple[int, ...], ...], causal: bool
) -> ModalityLayout:
    """The layout of a batch for a stream whose parts hold these modalities. Raises ValueError for ids that are none."""
    batch, sequence = modality_ids.shape
    stream = [modality for part in parts for modality in part]
    if modality_ids.numel() and not -1 <= int(modality_ids.min()) <= int(modality_ids.max()) < len(stream):
        raise ValueError(f"modality_ids must be -1 (padding) or 0..{len(stream) - 1}")
    rank = modality_ids.new_tensor([stream.index(modality) for modality in range(len(stream))] + [len(stream)])
    place = rank[modality_ids.flatten()]  # index -1 is the last entry: padding comes after every modality
    order = torch.argsort(place, stable=True)
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(order.numel(), device=order.device)
    *sizes, padding = torch.bincount(place, minlength=len(stream) + 1).tolist()
    rest = iter(sizes)
    part_sizes = tuple(sum(next(rest) for _ in part) for part in parts)
    index = torch.arange(sequence, device=modality_ids.device)
    positions = index.expand(batch, sequence)
    mask = None
    if document_ids is not None or padding:
        real = modality_ids >= 0
        mask = real[:, :, None] & real[:, None, :]
        if document_ids is not None:
            mask = mask & (document_ids[:, :, None] == document_ids[:, None, :])
            starts = torch.ones_like(real)
            starts[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
            positions = positions - (index * starts).cummax(dim=1).values
        if causal:
            mask = mask & (index[:, None] >= index)
        mask = (mask | torch.eye(sequence, dtype=torch.bool, device=mask.device))[:, None]
    return ModalityLayout(
        modality_ids, document_ids, positions, order, inverse, tuple(sizes), part_sizes, padding, mask
    )


class Permute(torch.autograd.Function):
    """Rows of x in another order. A permutation is a bijection, so its gradient is gathered by the inverse."""

    @staticmethod
    def forward(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        return x.index_select(0, order)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1], inputs[2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors
        return permute(gradients[0], inverse, order), None, None


def permute(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """Rows of x [n, ...] in the order `order` int64 [n], whose inverse is `inverse`."""
    permuted: Tensor = Permute.apply(x, order, inverse)  # type: ignore[no-untyped-call]
    return permuted


def to_sequence(parts: list[Tensor], layout: ModalityLayout) -> Tensor:
    """The stream's parts [n_i, ...] as one [B, S, ...] in sequence order, zeros at padding."""
    x = torch.cat(parts) if len(parts) > 1 else parts[0]
    if layout.padding:
        x = torch.cat((x, x.new_zeros(layout.padding, *x.shape[1:])))
    rows = permute(x, layout.inverse, layout.order)
    return rows.view(*layout.modality_ids.shape, *x.shape[1:])


def to_stream(x: Tensor, layout: ModalityLayout, sizes: tuple[int, ...]) -> list[Tensor]:
    """A sequence-ordered [B, S, ...] as the stream's tokens, cut into pieces of these sizes, padding left out."""
    rows = permute(x.flatten(0, 1), layout.order, layout.inverse)
    return list(torch.split(rows[: sum(sizes)], list(sizes)))


def regroup(pieces: list[Tensor], counts: tuple[int, ...]) -> list[Tensor]:
    """Join consecutive pieces, `counts[i]` of them into the i-th of the result."""
    rest = iter(pieces)
    return [torch.cat([next(rest) for _ in range(count)]) for count in counts]
