"""One difference between two models, as data and as a line of text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

EditKind = Literal["+", "-", "~"]

UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One difference: `subject` was `before` and is `after`, or came (+) or went (-).

    `layers` are the first and last layer it concerns, None where it concerns the whole model or nothing in the layers;
    `step` is how far one is from the next. `modalities` are those it concerns, empty where all. `parameters` and
    `flops` (matrix products a token, by modality; 0 where a modality is missing) are what it adds; over all edits of a
    diff they add up to the models' whole difference.
    """

    kind: EditKind
    subject: str
    before: str = ""
    after: str = ""
    layers: tuple[int, int] | None = None
    step: int = 1
    modalities: tuple[str, ...] = ()
    parameters: int = 0
    flops: dict[str, int] = field(default_factory=dict)

    def describe(self) -> str:
        """`ffn: {text image} → {text} {image}, layers 0..23, +207.6M parameters, ±0 FLOPs a token`."""
        where = "" if self.layers is None else layer_range(*self.layers, self.step)
        if self.subject == "layers":
            parts = [where]
        else:
            parts = [self.change]
            if where:
                parts.append(where)
        parts.append(f"{signed(self.parameters)} parameters")
        parts.append(self._describe_flops())
        return ", ".join(parts)

    @property
    def change(self) -> str:
        """What was and what is: `ffn of text: {text image} → {text} {image}`."""
        head = self.subject
        if self.modalities:
            head += f" of {', '.join(self.modalities)}"
        if self.before and self.after:
            return f"{head}: {self.before} → {self.after}"
        told = self.before or self.after
        return f"{head}: {told}" if told else head

    def _describe_flops(self) -> str:
        amounts = list(dict.fromkeys(self.flops.values())) or [0]
        if len(amounts) == 1:
            return f"{signed(amounts[0])} FLOPs a token"
        told = [f"{signed(amount)} FLOPs a token ({_names(self.flops, amount)})" for amount in amounts if amount]
        return ", ".join(told)

    def to_json(self) -> dict[str, object]:
        """The same, in types JSON knows."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "before": self.before,
            "after": self.after,
            "layers": None if self.layers is None else list(self.layers),
            "step": self.step,
            "modalities": list(self.modalities),
            "parameters": self.parameters,
            "flops_per_token": dict(self.flops),
            "text": self.describe(),
        }


def _names(flops: dict[str, int], amount: int) -> str:
    return ", ".join(name for name, value in flops.items() if value == amount)


def layer_range(first: int, last: int, step: int = 1) -> str:
    """`layers 0..23`, `layer 3`, `layers 3..35 step 4`."""
    return f"layer {first}" if first == last else f"layers {first}..{last}{f' step {step}' if step > 1 else ''}"


def signed(number: int) -> str:
    """`+207.6M`, `-1.5k`, `+12`, `±0`."""
    if number == 0:
        return "±0"
    sign = "+" if number > 0 else "-"
    size = abs(number)
    for unit, letter in UNITS:
        if size >= unit:
            return f"{sign}{size / unit:.1f}{letter}"
    return f"{sign}{size}"
