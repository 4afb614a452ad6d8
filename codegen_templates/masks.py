"""Who sees whom: what every mask tells, and the matrix that it makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .sizes import mark_sizes


def mask_sizes(chunks: Any) -> tuple[str, ...]:
    """What the sizes of a mask are called: of rows, or of `Chunks` of them, which may all have one."""
    if chunks is None:
        return ("rows", "one", "length", "length")
    return (chunks.number,) if chunks.first is None else ()


class Matrix(NamedTuple):
    """A matrix of who sees whom as attention takes it: in rows of L slots, or in `chunks` of them as `Rows` has it."""

    added: Tensor  # [R, 1, L, L]: what is added to the scores, 0 where it sees and -inf elsewhere
    visible: Tensor | None  # bool [R, 1, L, L]: whether it sees; None where a row is one document
    chunks: Any = None

    def mark_sizes(self) -> None:
        """Tell the compiler which sizes vary; those of chunks are marked with the rows."""
        for x in (self.added, self.visible):
            if x is not None and not hasattr(x, "_dynamo_unbacked_indices"):
                mark_sizes(x, *mask_sizes(self.chunks))


class Mask(ABC):
    """Who sees whom among the tokens of a document. Modalities are said by their ids."""

    kernel: Literal["causal", "full"] | None = None
    """The attention that needs no matrix in a row that is one document; None: there is none."""

    prefix: tuple[int, ...] = ()
    """Modalities of which a document's leading tokens see each other."""

    bidirectional: tuple[int, ...] = ()
    """Modalities of which an unbroken run sees all of itself."""

    runs: tuple[tuple[int, ...], ...] = ()
    """Modalities of which an unbroken run, whichever of them its tokens are, sees all of itself."""

    delimited: bool = False
    """Whether the tokens before and after such a run are in it."""

    window: int | None = None
    """How far back a token sees, itself included: in rows no longer than that it is as if there were none."""

    kept: int | None = None
    """How many of a document's last tokens one more token sees at most, itself included; None: there is no end."""

    hides_noised: bool = False
    """Whether it is told which tokens are of noised spans of latents."""

    @abstractmethod
    def allows(self, modality_ids: Tensor, document_ids: Tensor | None, together: Tensor) -> Tensor:
        """Whether each token of a row (dimension 1) may see each other (dimension 2), bool [R, L, L] or [1, L, L].

        `together`, bool [R, L, L], says which are tokens of one document; what is said of others does not count.
        """

    def found(self, modality_ids: Tensor, visible: Tensor) -> Tensor | None:
        """Which tokens find some of those to which they alone attend, bool [R, L]; None: all, or none does so.

        modality_ids int64 [R, L]; visible bool [R, L, L].
        """
        return None

    def found_by_next(self, modality_ids: Tensor, known: Tensor, seen: Tensor | None) -> Tensor | None:
        """The same of S more tokens of each row, bool [B, S]; what is known as below, and `seen` bool [B, 1, S, T]."""
        return None

    def seen_by_next(self, modality_ids: Tensor, known: Tensor) -> Tensor | None:
        """Which tokens of its row one more token sees, bool [B, T]; None: all of them.

        modality_ids int64 [B, 1] are those of the tokens that come next, known int64 [B, T] those of each row's tokens
        up to it, -1 where there is none: what is said of such a place does not count.
        """
        return None

    def chunks(self, modality_ids: Tensor, document_ids: Tensor | None, reads: bool) -> tuple[Any, Tensor] | None:
        """`Chunks` of rows [R, L], if they cost less, and which slots near each it sees: [P, 1, C, n] or [1, 1, C, n].

        Without `document_ids` each row is one document. `reads`: whether sizes may be read back from the device.
        """
        return None

    def given_noised(self, rows: Any, document_ids: Tensor | None, noised: Tensor) -> Any:
        """The `Rows` by this mask, if such tokens, bool [R, L], are of noised spans; document_ids are int64 [R, L]."""
        return rows

    def views(self, modality_ids: Tensor) -> Any:
        """The `Views` by which attention needs no matrix, for rows of one document each; None: it needs the matrix."""
        return None


def in_delimited_runs(masks: Iterable[Mask]) -> set[int]:
    """The modalities of whose runs the tokens before and after them are, too."""
    return {index for mask in masks if mask.delimited for index in mask.bidirectional}


def visibility(mask: Mask, modality_ids: Tensor, document_ids: Tensor | None) -> Tensor:
    """Whether each token of a row sees each other, bool [R, L, L]; places without a token see only themselves.

    modality_ids int64 [R, L], -1 where there is no token; document_ids int64 [R, L], or None: each row is one document.
    """
    real = modality_ids >= 0
    together = real[:, :, None] & real[:, None, :]
    if document_ids is not None:
        together = together & (document_ids[:, :, None] == document_ids[:, None, :])
    visible = together & mask.allows(modality_ids, document_ids, together)
    itself = torch.eye(modality_ids.shape[1], dtype=torch.bool, device=modality_ids.device)
    return visible | (itself & ~real[:, :, None])
