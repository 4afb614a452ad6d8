"""Rotary positions: which components of a head rotate, and how fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, assert_never

RopePairing = Literal["half", "interleaved"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearScaling:
    """Every frequency divided by `factor`."""

    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicScaling:
    """A larger theta where a document has positions from `original_length` on, the larger the longer it is."""

    factor: float
    original_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama3Scaling:
    """Low frequencies divided by `factor`, high ones left, and those between the two in between.

    A wave is short, and its frequency high, where `high_freq_factor` of it or more fit in `original_length`.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class YarnScaling:
    """YaRN (arXiv 2309.00071): a ramp between frequencies as they are and those divided by `factor`.

    It begins and ends where a pair turns `beta_fast` and `beta_slow` times in `original_length`, at a whole pair if
    `truncate`. Cosine and sine are multiplied by `attention_factor`.
    """

    factor: float
    beta_fast: float
    beta_slow: float
    original_length: int
    attention_factor: float
    truncate: bool


Scaling = LinearScaling | DynamicScaling | Llama3Scaling | YarnScaling
ScalingKind = Literal["linear", "dynamic", "llama3", "yarn"]


class Angles(NamedTuple):
    """What the angles of rotary positions follow from: `size` is how many components of a head rotate."""

    theta: float
    size: int
    scaling: Scaling | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the frequencies are theta's powers as they are."""
        return self.scaling is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Rotary positions of the first `fraction` of a head's components, which are d, an even number.

    What rotates together are the pairs (i, i + d/2) for `half`, (2i, 2i + 1) for `interleaved`.
    """

    theta: float
    pairing: RopePairing
    fraction: float = 1.0
    scaling: Scaling | None = None

    def angles(self, head_dim: int) -> Angles:
        """What the angles follow from in heads of this size."""
        return Angles(self.theta, round(head_dim * self.fraction), self.scaling)

    @property
    def settings(self) -> dict[str, object]:
        """All that can differ, by the language's keys."""
        return {
            "theta": self.theta,
            "pairing": self.pairing,
            "fraction": self.fraction,
            "scaling": "none" if self.scaling is None else described(self.scaling),
        }

    @property
    def summary(self) -> str:
        """`theta 10000, pairing half, fraction 0.25, scaling linear, factor 2`: what is plain is not told."""
        part = "" if self.fraction == 1 else f", fraction {self.fraction:g}"
        scaled = "" if self.scaling is None else f", scaling {described(self.scaling)}"
        return f"theta {self.theta:g}, pairing {self.pairing}{part}{scaled}"

    def __str__(self) -> str:
        """`theta 10000 half`, and what else is in the summary."""
        return self.summary.replace(", pairing ", " ", 1)


NO_ROPE: dict[str, object] = dict.fromkeys(("theta", "pairing", "fraction", "scaling"))
"""The settings where nothing rotates."""


def described(scaling: Scaling) -> str:
    """`llama3, factor 32, low_freq_factor 1, high_freq_factor 4, original_length 8192`."""
    values = {name: getattr(scaling, name) for name in scaling.__slots__}
    said = (
        f"{name} {str(value).lower() if isinstance(value, bool) else f'{value:g}'}" for name, value in values.items()
    )
    return ", ".join([kind_of(scaling), *said])


def kind_of(scaling: Scaling) -> ScalingKind:
    """What the language calls it."""
    match scaling:
        case LinearScaling():
            return "linear"
        case DynamicScaling():
            return "dynamic"
        case Llama3Scaling():
            return "llama3"
        case YarnScaling():
            return "yarn"
        case _:
            assert_never(scaling)
