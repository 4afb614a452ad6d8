"""Every branch computes every token, then one is chosen: no shape depends on data."""

import torch
from torch import Tensor

from .layout_slots import SlotLayout


def branch(x: Tensor, layout: SlotLayout, counts: tuple[int, ...]) -> list[Tensor]:
    """What stands in the slots [R, L, ...], once for each branch; of ids, only those of its modalities, the others 0.

    Branch i is of `counts[i]` modalities.
    """
    if isinstance(layout.places, int):
        return [x]
    if x.is_floating_point():
        return [x for _ in counts]
    first, branches = 0, []
    for count in counts:
        branches.append(torch.where((layout.places >= first) & (layout.places < first + count), x, 0))
        first += count
    return branches


def choose(branches: list[Tensor], layout: SlotLayout, counts: tuple[int, ...]) -> Tensor:
    """Each slot [R, L, ...] from the branch its token belongs to, branch i being of `counts[i]` modalities."""
    if isinstance(layout.places, int):
        return branches[0]
    whole, first = branches[0], counts[0]
    for each, count in zip(branches[1:], counts[1:], strict=True):
        later = layout.places >= first
        whole = torch.where(later.view(*later.shape, *(1 for _ in each.shape[2:])), each, whole)
        first += count
    return whole
