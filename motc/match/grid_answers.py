"""What a grid answers: whether a system ends lower than the base, by more than noise, and in how many steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from motc.match.grid_report import GridReport
from motc.match.markdown import NONE, row, table


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A system's loss at the end less the base's, means over seeds; noise is the wider of both ranges over seeds."""

    value: float
    noise: float | None  # None where the base has one seed

    @property
    def told(self) -> str:
        """Lower, higher, none (no wider than the noise), or neither where the noise is not known."""
        if self.noise is None:
            return f"{self.value:+.3f}"
        verdict = "none" if abs(self.value) <= self.noise else "lower" if self.value < 0 else "higher"
        return f"{self.value:+.3f} ± {self.noise:.3f}: {verdict}"


class Reached(NamedTuple):
    """Steps to a loss; `bound` says that they are fewer (<) or more (>) than those of any horizon."""

    steps: float
    bound: Literal["", "<", ">"]


def difference(report: GridReport, system: str, steps: int, modality: str) -> Difference | None:
    """At each one's best rate; None where one has diverged."""
    mine, theirs = (report.best_ends(name, steps, modality) for name in (report.base, system))
    if not mine or not theirs:
        return None
    value = sum(theirs) / len(theirs) - sum(mine) / len(mine)
    noise = max(max(ends) - min(ends) for ends in (mine, theirs))
    return Difference(value=value, noise=noise if len(mine) > 1 else None)


def reached(ends: Sequence[tuple[int, float]], wanted: float) -> Reached:
    """Where the line through losses at the end, by rising numbers of steps, first comes down to the loss wanted.

    It is straight in the logarithm of steps.
    """
    before: tuple[int, float] | None = None
    for steps, loss in ends:
        if loss <= wanted:
            if before is None:
                return Reached(steps, "" if loss == wanted else "<")
            share = (before[1] - wanted) / (before[1] - loss)
            return Reached(before[0] * (steps / before[0]) ** share, "")
        before = (steps, loss)
    return Reached(ends[-1][0], ">")


def answers(report: GridReport) -> Iterator[str]:
    """The tables, as lines of Markdown; none without the base and another system."""
    base, modalities = report.base, report.data.modalities
    compared = {
        steps: [name for name in systems if name != base]
        for steps in report.horizons
        if base in (systems := report.systems(steps))
    }
    if not any(compared.values()):
        return
    yield from (f"## Lower than {base}?", "")
    yield (
        f"The loss at the end less that of {base}, means over seeds at best rates; ± the wider of both ranges over "
        f"seeds, within which a difference is told as none. One seed of {base} alone has no range."
    )
    yield from ("", *table(["steps", "system", *modalities]))
    for steps, systems in compared.items():
        for system in systems:
            found = [difference(report, system, steps, modality) for modality in modalities]
            yield row([f"{steps:,}", system, *(NONE if each is None else each.told for each in found)])
    if len(report.horizons) < 2:
        return
    yield from ("", f"## In how many steps is it where {base} is at its end?", "")
    yield (
        "On the line, in the logarithm of steps, through a system's losses at the end of each horizon; < where the "
        f"shortest horizon ends lower already, > where the longest does not. In shares of the steps of {base}."
    )
    yield from ("", *table(["steps", "system", *modalities]))
    for steps in compared:
        for system in report.models:
            cells = [_share(report, system, steps, modality) for modality in modalities]
            if system != base and any(cell != NONE for cell in cells):
                yield row([f"{steps:,}", system, *cells])


def _share(report: GridReport, system: str, steps: int, modality: str) -> str:
    wanted = _end(report, report.base, steps, modality)
    ends = [(each, _end(report, system, each, modality)) for each in report.horizons]
    known = [(each, end) for each, end in ends if not math.isnan(end)]
    if len(known) < 2 or math.isnan(wanted):
        return NONE
    found = reached(known, wanted)
    return f"{found.bound} {found.steps / steps:.2f}".strip()


def _end(report: GridReport, system: str, steps: int, modality: str) -> float:
    """The mean loss at the end at the best rate; NaN where there is none."""
    if system not in report.systems(steps):
        return math.nan
    ends = report.best_ends(system, steps, modality)
    return sum(ends) / len(ends) if ends else math.nan
