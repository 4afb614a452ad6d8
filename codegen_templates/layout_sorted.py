"""Where a batch's tokens lie, for a model that sorts them by modality."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .checks import check_modalities
from .masks import Mask
from .rows import Rows
from .rows_documents import rows_by_document
from .sizes import mark_numbers, mark_sizes, moved
from .tokens import invert, places_of, real_tokens


class SortedLayout(NamedTuple):
    """Where a batch's tokens lie: in attention's rows of slots, and sorted by modality. -1 stands for none.

    A row is one document without its padding. N is the number of tokens that are not padding.
    """

    modality_ids: Tensor  # int64 [B, S], -1 at padding
    document_ids: Tensor | None  # int64 [B, S], or None: each row is one document
    rows: Rows
    places: Tensor | int  # int64 [R, L]: of each slot's modality in the order they are sorted in; or one of all
    order: Tensor  # int64 [N]: the slot of each sorted token
    inverse: Tensor  # int64 [R, L]: the sorted place of each slot's token
    sorted_places: Tensor | int  # int64 [N]: `places`, sorted; or one of all
    pieces: tuple[Tensor, ...]  # one [n] for each modality, in the order they are sorted in: as many as it has tokens
    tokens: Tensor  # int64 [N] or, if the stream is kept in slots, [R, L]: the batch's token at each of its places
    batch: Tensor  # int64 [B, S]: the place in the stream of each token of the batch
    key: str  # of the model that made it: equal where masks, orders of modalities and strategies are

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SortedLayout:
        """The layout on another device, as for a batch that a data loader made."""
        return SortedLayout(*moved(tuple(self), device, non_blocking))

    def of_one(self, place: int, modality_ids: Tensor) -> SortedLayout:
        """A layout of other tokens [B, S], all with the parameters of the modality at a place."""
        rows = self.rows._replace(modality_ids=modality_ids)
        return self._replace(modality_ids=modality_ids, rows=rows, places=place, sorted_places=place)

    def of_slots(self, places: Tensor, slots: Tensor, count: int) -> SortedLayout:
        """The layout of other slots [R, L] of the batch, and of their modalities' places, of so many."""
        return self._replace(**sorted_fields(places, slots, self.modality_ids, count, self.tokens.ndim == 1))

    def mark_sizes(self) -> None:
        """Tell the compiler which sizes vary."""
        self.rows.mark_sizes()
        for x in (self.places, self.inverse):
            if isinstance(x, Tensor):
                mark_sizes(x, "rows", "length")
        mark_numbers(self.tokens)
        for x in (self.order, self.sorted_places):
            if isinstance(x, Tensor):
                mark_sizes(x, "stream")
        for x in self.pieces:
            mark_sizes(x, "piece")
        for y in (self.modality_ids, self.document_ids, self.batch):
            if y is not None:
                mark_sizes(y, "batch", "sequence")


def sorted_layout(
    modality_ids: Tensor,
    document_ids: Tensor | None,
    modalities: tuple[int, ...],
    masks: tuple[Mask, ...],
    stream_is_sorted: bool,
    key: str = "",
) -> SortedLayout:
    """The layout of a batch whose modalities are sorted in this order; the stream is in that order, or in slots.

    Raises TypeError or ValueError for ids as `check_modalities` does. Reads sizes back from the device.
    """
    count = len(modalities)
    check_modalities(modality_ids, document_ids, count, reads=True)
    rows = rows_by_document(modality_ids, document_ids, masks)
    places = places_of(rows.modality_ids, modalities)
    fields = sorted_fields(places, rows.slots, modality_ids, count, stream_is_sorted)
    return SortedLayout(
        modality_ids=modality_ids.clone(),  # the caller may write into the batch's own
        document_ids=None if document_ids is None else document_ids.clone(),
        rows=rows,
        batch=invert(fields["tokens"].flatten(), modality_ids.numel()).view_as(modality_ids),
        key=key,
        **fields,
    )


def sorted_fields(
    places: Tensor, slots: Tensor, modality_ids: Tensor, count: int, stream_is_sorted: bool
) -> dict[str, Any]:
    """What a layout has of slots int64 [R, L] whose modalities' places are these: all but `rows` and `batch`."""
    order = torch.argsort(places.flatten(), stable=True)
    sizes = torch.bincount(places.flatten(), minlength=count)[:count].tolist()
    for size in sizes:
        torch._check(size >= 0)  # type: ignore[no-untyped-call]
    torch._check(sum(sizes) <= order.shape[0])  # type: ignore[no-untyped-call]
    order = order[: sum(sizes)]
    return {
        "places": places,
        "order": order,
        "inverse": invert(order, places.numel()).view_as(places),
        "sorted_places": places.flatten()[order],
        "pieces": tuple(torch.empty_like(piece) for piece in torch.split(order, sizes)),
        "tokens": real_tokens(slots.flatten()[order] if stream_is_sorted else slots, modality_ids),
    }


def piece_sizes(layout: SortedLayout, tokens: int, counts: tuple[int, ...] | None) -> list[int]:
    """How many of the sorted tokens belong to each piece, piece i being `counts[i]` modalities, or one if not given."""
    sizes = [piece.shape[0] for piece in layout.pieces]
    if counts is not None:
        single = iter(sizes)
        sizes = [sum(next(single) for _ in range(count)) for count in counts]
    torch._check(sum(sizes[:-1]) <= tokens)  # type: ignore[no-untyped-call]
    return [*sizes[:-1], tokens - sum(sizes[:-1])]  # so that the compiler knows what they add up to


def split(x: Tensor, layout: SortedLayout, counts: tuple[int, ...] | None = None) -> list[Tensor]:
    """Sorted tokens [N, ...] cut into pieces: one for each modality, or piece i being `counts[i]` modalities."""
    if isinstance(layout.places, int):
        return [x]
    return list(torch.split(x, piece_sizes(layout, x.shape[0], counts)))


def merge(pieces: list[Tensor], layout: SortedLayout, counts: tuple[int, ...] | None = None) -> Tensor:
    """What `split` has cut, whole again."""
    return pieces[0] if isinstance(layout.places, int) else torch.cat(pieces)
