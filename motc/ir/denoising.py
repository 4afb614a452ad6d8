"""What latents teach: how they are noised, how much how often, what is predicted, and what errors count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Objective = Literal["ddpm", "flow"]
Prediction = Literal["noise", "velocity", "sample"]
Variance = Literal["fixed", "learned"]
Schedule = Literal["cosine", "linear", "scaled_linear"]
TimesKind = Literal["uniform", "logit_normal", "mode", "beta"]
Moment = Literal["span", "frame", "token"]
TokenShiftKind = Literal["sqrt", "exponential"]
WeightingKind = Literal["snr", "min_snr", "sigma_sqrt", "cosmap"]


def words(value: float) -> str:
    """A number as short as it is exact."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noising:
    """What `ddpm` predicts, and how much noise each of its 1,000 steps adds, in diffusers' sense.

    `linear` and `scaled_linear` go from `beta_start` to `beta_end`, which say nothing of `cosine`. With a
    `variance` that is learned, where it lies between the least and the most of a step is predicted beside.
    """

    prediction: Prediction = "noise"
    variance: Variance = "fixed"
    schedule: Schedule = "cosine"
    beta_start: float = 0.0001
    beta_end: float = 0.02

    def __str__(self) -> str:
        """`velocity, scaled_linear 0.00085 to 0.012`, or `noise and variances, cosine`."""
        betas = "" if self.schedule == "cosine" else f" {words(self.beta_start)} to {words(self.beta_end)}"
        variances = " and variances" if self.variance == "learned" else ""
        return f"{self.prediction}{variances}, {self.schedule}{betas}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenShift:
    """A shift that follows from how many tokens a latent has.

    `sqrt`: the root of how many times `base_tokens` they are. `exponential`: e to the power of what lies on the line
    through `base_shift` at `base_tokens` and `max_shift` at `max_tokens`.
    """

    kind: TokenShiftKind
    base_tokens: int
    max_tokens: int = 4096
    base_shift: float = 0.5
    max_shift: float = 1.15

    def __str__(self) -> str:
        if self.kind == "sqrt":
            return f"sqrt(tokens / {self.base_tokens})"
        ends = f"{words(self.base_shift)} at {self.base_tokens} to {words(self.max_shift)} at {self.max_tokens} tokens"
        return f"exp({ends})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How times between data, 0, and noise, 1, are drawn.

    `logit_normal` has `mean` and `std`, `mode` a `scale`, `beta` its two parameters; what is drawn lies from `low` to
    `high`, and then a time t becomes s t / (1 + (s - 1) t), s being `shift` or what follows from the tokens. One is
    drawn of `each` span, frame or token.
    """

    kind: TimesKind = "uniform"
    mean: float = 0.0
    std: float = 1.0
    scale: float = 1.29
    alpha: float = 1.5
    beta: float = 1.0
    low: float = 0.0
    high: float = 1.0
    shift: float = 1.0
    by_tokens: TokenShift | None = None
    each: Moment = "span"

    @property
    def parameters(self) -> dict[str, float]:
        """Those of the distribution, by name."""
        return {name: getattr(self, name) for name in PARAMETERS[self.kind]}

    def __str__(self) -> str:
        """`uniform`, or `beta(1.5, 1) in 0.001..1, shifted by 3`."""
        parameters = ", ".join(words(value) for value in self.parameters.values())
        said = f"{self.kind}({parameters})" if parameters else self.kind
        if (self.low, self.high) != (0, 1):
            said += f" in {words(self.low)}..{words(self.high)}"
        if self.by_tokens is not None:
            said += f", shifted by {self.by_tokens}"
        elif self.shift != 1:
            said += f", shifted by {words(self.shift)}"
        return said if self.each == "span" else f"{said}, of each {self.each}"


PARAMETERS: dict[TimesKind, tuple[str, ...]] = {
    "uniform": (),
    "logit_normal": ("mean", "std"),
    "mode": ("scale",),
    "beta": ("alpha", "beta"),
}
"""The parameters of each distribution of times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighting:
    """What a latent's error counts by its time: by the ratio of signal and noise, or by sigma as for SD3.

    `gamma` is the most that the ratio counts, for `min_snr`.
    """

    kind: WeightingKind
    gamma: float = 5.0

    def __str__(self) -> str:
        return f"min_snr {words(self.gamma)}" if self.kind == "min_snr" else self.kind


WEIGHTINGS: dict[Objective, tuple[WeightingKind, ...]] = {
    "ddpm": ("snr", "min_snr"),
    "flow": ("sigma_sqrt", "cosmap"),
}
"""The weightings that each objective has."""
