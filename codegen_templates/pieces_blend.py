"""Pieces that are the whole: every branch computes every token, then one is chosen. Shapes depend on no data."""

import torch
from torch import Tensor

from codegen_templates.layout_slots import ModalityLayout


def split(x: Tensor, layout: ModalityLayout, counts: tuple[int, ...]) -> list[Tensor]:
    """What stands in the slots [R, L, ...], once for each piece; of ids, only those of the piece, the others 0."""
    if x.is_floating_point():
        return [x for _ in counts]
    first, pieces = 0, []
    for count in counts:
        pieces.append(torch.where((layout.places >= first) & (layout.places < first + count), x, 0))
        first += count
    return pieces


def merge(pieces: list[Tensor], layout: ModalityLayout, counts: tuple[int, ...]) -> Tensor:
    """Each slot [R, L, ...] from the piece its token belongs to, piece i being `counts[i]` modalities."""
    whole, first = pieces[0], counts[0]
    for piece, count in zip(pieces[1:], counts[1:], strict=True):
        later = layout.places >= first
        whole = torch.where(later.view(*later.shape, *(1 for _ in piece.shape[2:])), piece, whole)
        first += count
    return whole
