"""Where a batch's tokens lie, for grouped matrix products: sorted by modality, and no size read from the device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .checks import check_modalities
from .masks import Mask
from .rows import Rows, fill_rows
from .rows_compact import compact_rows
from .sizes import mark_numbers, mark_sizes, moved
from .tokens import invert, places_of


class GroupedLayout(NamedTuple):
    """Where a batch's tokens lie: in attention's rows of slots, and sorted by modality, padding last. -1: none."""

    modality_ids: Tensor  # int64 [B, S], -1 at padding
    document_ids: Tensor | None  # int64 [B, S], or None: each row is one document
    rows: Rows
    places: Tensor | int  # int64 [R, L]: of each slot's modality in the order they are sorted in; or one of all
    order: Tensor  # int64 [B * S]: the slot of each sorted token
    inverse: Tensor  # int64 [B, S]: the sorted place of each slot's token
    sorted_places: Tensor | int  # int64 [N]: `places`, sorted; or one of all
    ends: Tensor  # int32 [M]: where each modality's sorted tokens end; padding goes with the last
    tokens: Tensor  # int64 [B * S] or, if the stream is kept in slots, [B, S]: the batch's token at each of its places
    batch: Tensor  # int64 [B, S]: the place in the stream of each token of the batch
    key: str  # of the model that made it: equal where masks, orders of modalities and strategies are

    def to(self, device: torch.device | str, non_blocking: bool = False) -> GroupedLayout:
        """The layout on another device, as for a batch that a data loader made."""
        return GroupedLayout(*moved(tuple(self), device, non_blocking))

    def of_one(self, place: int, modality_ids: Tensor) -> GroupedLayout:
        """A layout of other tokens [B, S], all with the parameters of the modality at a place."""
        rows = self.rows._replace(modality_ids=modality_ids)
        return self._replace(modality_ids=modality_ids, rows=rows, places=place, sorted_places=place)

    def mark_sizes(self) -> None:
        """Tell the compiler which sizes vary."""
        self.rows.mark_sizes()
        for x in (self.places, self.inverse):
            if isinstance(x, Tensor):
                mark_sizes(x, "rows", "length")
        for x in (self.order, self.sorted_places):
            if isinstance(x, Tensor):
                mark_sizes(x, "stream")
        mark_numbers(self.tokens)
        for y in (self.modality_ids, self.document_ids, self.batch):
            if y is not None:
                mark_sizes(y, "batch", "sequence")


def grouped_layout(
    modality_ids: Tensor,
    document_ids: Tensor | None,
    modalities: tuple[int, ...],
    masks: tuple[Mask, ...],
    stream_is_sorted: bool,
    key: str = "",
) -> GroupedLayout:
    """The layout of a batch whose modalities are sorted in this order; on a GPU reads nothing back.

    Raises TypeError or ValueError for ids as `check_modalities` does.
    """
    count = len(modalities)
    check_modalities(modality_ids, document_ids, count, reads=False)
    slots = compact_rows(modality_ids)
    plain = ("causal",) if document_ids is None else ()
    rows = fill_rows(slots, modality_ids, document_ids, masks, plain)
    places = places_of(rows.modality_ids, modalities)
    order = torch.argsort(places.flatten(), stable=True)
    each = torch.arange(count, device=places.device)[:, None]
    ends = (places.flatten() <= each).sum(1).to(torch.int32)
    ends = torch.where(each.flatten() == count - 1, order.numel(), ends)
    tokens = slots.flatten()[order] if stream_is_sorted else slots
    return GroupedLayout(
        modality_ids=modality_ids.clone(),  # the caller may write into the batch's own
        document_ids=None if document_ids is None else document_ids.clone(),
        rows=rows,
        places=places,
        order=order,
        inverse=invert(order, slots.numel()).view_as(slots),
        sorted_places=places.flatten()[order],
        ends=ends.to(torch.int32),
        tokens=tokens,
        batch=invert(tokens.flatten(), modality_ids.numel()).view_as(modality_ids),
        key=key,
    )


def group(x: Tensor, layout: GroupedLayout, counts: tuple[int, ...] | None = None) -> list[Tensor]:
    """Sorted tokens [N, ...], and where each group of them ends: one for each modality, or group i of `counts[i]`."""
    if isinstance(layout.places, int):
        return [x]
    if counts is None:
        return [x, layout.ends]
    last = [sum(counts[: index + 1]) - 1 for index in range(len(counts))]
    return [x, torch.stack([layout.ends[index] for index in last])]


def ungroup(pieces: list[Tensor], layout: GroupedLayout, counts: tuple[int, ...] | None = None) -> Tensor:
    """The tokens that went through all groups at once."""
    return pieces[0]
