"""How the tokens of a modality are placed where positions are not given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PlacingKind = Literal["consecutive", "same", "grid", "centred"]
AdvanceWord = Literal["tokens", "extent", "spatial"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionRule:
    """The rule of a modality, whose spans are unbroken runs in a document.

    A span begins at the next position, or at `start`. Its tokens are `consecutive`, all at the `same` position, or at
    their places in a `grid`; `centred`: so that its middle is that of as many consecutive tokens. Then it goes on so
    much further: as many as the span has `tokens`, as its grid is long along its longest axis (`extent`), or along the
    longest of the last two (`spatial`), or by a number. With `delimiters` the tokens before and after it, of modalities
    without a rule, are part of the span. After a span of noised latents it goes on by `noised_advance`, if that is
    said.
    """

    kind: PlacingKind
    start: int | None
    advance: int | AdvanceWord
    delimiters: bool
    noised_advance: int | None = None

    @property
    def takes_grid(self) -> bool:
        """Whether the size of a span's grid says where its tokens are."""
        return self.kind in ("grid", "centred")

    def __str__(self) -> str:
        """`grid, advance extent`."""
        start = [] if self.start is None else [f"start {self.start}"]
        noised = [] if self.noised_advance is None else [f"{self.noised_advance} if noised"]
        return ", ".join(
            [self.kind, *start, f"advance {self.advance}", *noised, *["with delimiters"] * self.delimiters]
        )
