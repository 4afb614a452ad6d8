"""Modalities that read others, in a call of attention for each."""

from __future__ import annotations

from torch import Tensor

from .cache import KeyValues
from .layout import Layout
from .mask_reading import Reading
from .masks import Mask, Matrix
from .reading import Reader, attend_reading
from .sizes import not_empty
from .views import InViews, View, Views, attend_by_views


class ReadingInViews(InViews, Reading):
    """`Reading`: the views of the others, and one for each modality that reads.

    `behind`: a token reads what comes before it alone. There are views where all that it reads does, and is something.
    """

    def __init__(self, mask: Mask, others: Mask, reads: tuple[tuple[int, ...], ...], *, behind: bool = False) -> None:
        super().__init__(mask, others, reads)
        self.behind = behind

    def list_views(self, modality_ids: Tensor) -> list[View]:
        views = self.others.list_views(modality_ids) if isinstance(self.others, InViews) else []
        for modality in self.readers:
            views.append(View(modality_ids == modality, self.read_by(modality, modality_ids), causal=False))
        return views

    def read_by(self, modality: int, modality_ids: Tensor) -> Tensor:
        """Which tokens a modality reads, bool [R, L]."""
        read = modality_ids.new_zeros(modality_ids.shape).bool()
        for other, is_read in enumerate(self.reads[modality]):
            read = read | (modality_ids == other) if is_read else read
        return read

    def views(self, modality_ids: Tensor) -> Views | None:
        for modality in self.readers:
            mine, read = modality_ids == modality, self.read_by(modality, modality_ids)
            wrong = mine.any(dim=1) & ~read.any(dim=1)  # it would read none
            if self.behind:
                wrong = wrong | (mine.cummax(dim=1).values & read).any(dim=1)
            if bool(wrong.any()):
                return None
        return super().views(modality_ids)


def attend_reading_in_views(
    readers: tuple[Reader, ...],
    layout: Layout,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Matrix | None,
    views: Views | None,
    cache: KeyValues | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """As `attend_reading`, in a call for each view where there are any; the last are the readers', one each."""
    if views is None:
        return attend_reading(readers, layout, q, k, v, mask, cache, scale=scale, softcap=softcap, sinks=sinks)
    if cache is not None:
        cache.extended(k.transpose(1, 2), v.transpose(1, 2))
    read = [(k, v)] * (len(views.calls) - len(readers))
    read += [reader.read(k, v, layout.rows.modality_ids) for reader in readers]
    return attend_by_views(not_empty(q), read, views, scale, softcap, sinks).flatten(2)
