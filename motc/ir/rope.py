"""Rotary positions: which components of a head rotate, and how fast."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, assert_never

RopePairing = Literal["half", "interleaved"]
Arrangement = Literal["split", "interleaved", "spatial_first"]
Theta = float | tuple[float, ...]
"""One for all axes, or of each its own."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Positions of several numbers a token, one for each axis; `pairs` is how many pairs of components an axis has.

    `split`: the pairs of an axis follow one another. `interleaved`: they take turns, and what is left is the first
    axis's. `spatial_first`: those of the others take turns, then come the first axis's. Frequencies fall from the first
    pair to the last; with `own` an axis's pairs follow one another, and begin anew with the frequency 1.
    """

    pairs: tuple[int, ...]
    arrangement: Arrangement | Literal["own"]


class Angles(NamedTuple):
    """What the angles of rotary positions follow from: `size` is how many components of a head rotate.

    Positions of modalities in `restarting` are counted from the first token of them all in a document.
    """

    theta: Theta
    size: int
    scaling: Scaling | None = None
    axes: Axes | None = None
    thetas: tuple[Theta, ...] = ()
    restarting: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Rotary positions of the first `fraction` of a head's components, which are d, an even number.

    `thetas` are those of the modalities, in their order, where they differ; then `theta` is the first of them.
    What rotates together are the pairs (i, i + d/2) for `half`, (2i, 2i + 1) for `interleaved`.
    """

    theta: Theta
    pairing: RopePairing
    fraction: float = 1.0
    scaling: Scaling | None = None
    axes: Axes | None = None
    thetas: tuple[Theta, ...] = ()

    def angles(self, head_dim: int) -> Angles:
        """What the angles follow from in heads of this size."""
        return Angles(self.theta, round(head_dim * self.fraction), self.scaling, self.axes, self.thetas)

    @property
    def settings(self) -> dict[str, object]:
        """All that can differ, by the language's keys."""
        axes = self.axes
        own = axes is not None and axes.arrangement == "own"
        return {
            "theta": " or ".join(map(theta_text, self.thetas)) or theta_text(self.theta),
            "pairing": self.pairing,
            "fraction": self.fraction,
            "scaling": "none" if self.scaling is None else described(self.scaling),
            "sections": "none" if axes is None or own else listed(axes.pairs),
            "arrangement": "none" if axes is None or own else axes.arrangement,
            "axes": listed([2 * pairs for pairs in axes.pairs]) if axes is not None and own else "none",
        }

    @property
    def summary(self) -> str:
        """`theta 10000, pairing half, fraction 0.25, scaling linear, factor 2`: what is plain is not told."""
        said = {key: value for key, value in self.settings.items() if value not in ("none", 1.0) or key == "theta"}
        return ", ".join(
            f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in said.items()
        )

    def __str__(self) -> str:
        """`theta 10000 half`, and what else is in the summary."""
        return self.summary.replace(", pairing ", " ", 1)


def theta_text(theta: Theta) -> str:
    """A number, or a list, as a spec says it."""
    return f"{theta:g}" if isinstance(theta, float) else listed(theta)


def listed(numbers: Iterable[float]) -> str:
    """`[16, 24, 24]`, as a spec says it."""
    return f"[{', '.join(f'{number:g}' for number in numbers)}]"


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


NO_ROPE: dict[str, object] = dict.fromkeys(Rope(theta=1.0, pairing="half").settings)
"""The settings where nothing rotates."""
