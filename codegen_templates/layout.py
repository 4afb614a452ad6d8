"""What every layout of a batch tells."""

from __future__ import annotations

from typing import Protocol, TypeVar

from torch import Tensor

from .rows import Rows


class Layout(Protocol):
    """Where a batch's tokens lie. -1 stands for none."""

    @property
    def modality_ids(self) -> Tensor:
        """int64 [B, S], -1 at padding."""

    @property
    def document_ids(self) -> Tensor | None:
        """int64 [B, S], or None: each row is one document."""

    @property
    def rows(self) -> Rows:
        """Attention's rows of slots [R, L]."""

    @property
    def places(self) -> Tensor | int:
        """int64 [R, L]: the place of each slot's modality in the order they are sorted in; their number for none.

        In a step of generating whose tokens all go through the same parameters one number, the place of a modality that
        has these. Such tokens [B, S] are in no other order than the batch's, and in one piece.
        """

    @property
    def tokens(self) -> Tensor:
        """int64 [N] or [R, L]: the flattened batch's token at each place of the stream."""

    @property
    def batch(self) -> Tensor | None:
        """int64 [B, S]: the place in the stream of each token of the batch; None: they are the same."""

    @property
    def key(self) -> str:
        """Of the model that made it: equal where masks, orders of modalities and strategies are."""

    def mark_sizes(self) -> None:
        """Tell the compiler which sizes vary."""


AnyLayout = TypeVar("AnyLayout", bound=Layout)


class SortingLayout(Layout, Protocol):
    """A layout that also has the tokens sorted by modality, [N]."""

    @property
    def order(self) -> Tensor:
        """int64 [N]: the slot of each sorted token."""

    @property
    def inverse(self) -> Tensor:
        """int64 [R, L]: the sorted place of each slot's token."""
