"""What is measured of one mode on one mixture of modalities: each side's seconds in rounds, and their parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .parts import Parts
from .settings import Mode
from .timing import Spread, pairwise, spread

BASE = "dense"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One mode on one mixture in one dtype: each side's seconds, round by round, and the parts of other rounds.

    `graphs_meanwhile` should be 0: a graph compiled while the clock ran is in somebody's seconds.
    """

    dtype: str
    mode: Mode
    tokens: Mapping[str, int]
    share: float | None
    batch: int
    seconds: Mapping[str, tuple[float, ...]]
    graphs_meanwhile: int
    parts: Mapping[str, tuple[Parts, ...]] = field(default_factory=dict)

    def median(self, side: str) -> float:
        """Seconds of a run."""
        return spread(self.seconds[side]).median

    def tokens_per_second(self, side: str) -> float:
        return self.batch * sum(self.tokens.values()) / self.median(side)

    def ratios(self, side: str) -> tuple[float, ...]:
        """How many times dense, round by round."""
        return pairwise(self.seconds[side], self.seconds[BASE])

    def ratio(self, side: str) -> Spread:
        return spread(self.ratios(side))

    def products_ratio(self, side: str) -> Spread | None:
        """How many times dense's the matrix products alone take; None where the profile was not taken."""
        return self._parts_ratio([(mine.products, other.products) for mine, other in self._profiled(side)])

    def rest_ratio(self, side: str) -> Spread | None:
        """How many times dense's everything but the products takes; None where the profile was not taken."""
        return self._parts_ratio([(mine.rest, other.rest) for mine, other in self._profiled(side)])

    def _profiled(self, side: str) -> list[tuple[Parts, Parts]]:
        return list(zip(self.parts.get(side, ()), self.parts.get(BASE, ()), strict=False))

    @staticmethod
    def _parts_ratio(pairs: list[tuple[float, float]]) -> Spread | None:
        """The ratio of each pair; None where there are none, or the base spends nothing on the part."""
        if not pairs or any(other <= 0 for _, other in pairs):
            return None
        return spread([mine / other for mine, other in pairs])

    def to_json(self) -> dict[str, Any]:
        """Every figure, with the raw rounds."""
        return {
            "dtype": self.dtype,
            "mode": self.mode,
            "tokens": dict(self.tokens),
            "share": self.share,
            "graphs_meanwhile": self.graphs_meanwhile,
            "sides": {side: self._side(side) for side in self.seconds},
        }

    def _side(self, side: str) -> dict[str, Any]:
        figures = {
            "median_seconds": self.median(side),
            "tokens_per_second": self.tokens_per_second(side),
            "ratio": asdict(self.ratio(side)),
            "ratios": list(self.ratios(side)),
            "seconds": list(self.seconds[side]),
        }
        if side in self.parts:
            products, rest = self.products_ratio(side), self.rest_ratio(side)
            figures |= {
                "products_ratio": asdict(products) if products else None,
                "rest_ratio": asdict(rest) if rest else None,
                "parts": [asdict(parts) for parts in self.parts[side]],
            }
        return figures
