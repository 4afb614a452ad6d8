"""What tokens are told of the span that they belong to: a vector for each, and what norms make of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Literal, get_args

from motc.ir.parameters import Parameterised

Activation = Literal["silu", "gelu", "gelu_tanh", "quick_gelu", "relu", "relu2"]
Part = Literal["scale", "shift", "gate"]
GateKind = Literal["linear", "tanh"]
PARTS: tuple[Part, ...] = get_args(Part)

Wavelengths = tuple[float, float]
"""The shortest and the longest period of sinusoids, the whole of the noise's course being 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sinusoids:
    """Cosines and sines of a number, as many of each, and how many numbers are between the two maps behind them.

    Half of `count` frequencies fall from 1 to nearly 1 / max_period, or if they are `closed` to that itself, of the
    number times `scale`. With `periods`, sines and cosines of these, each the same multiple of the one before.
    """

    count: int
    hidden: int
    max_period: float = 10000.0
    scale: float = 1.0
    closed: bool = False
    periods: Wavelengths | None = None
    bias: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """A table of so many labels, and of a row more that stands for none of them if there is a `null`."""

    count: int
    null: bool

    @property
    def rows(self) -> int:
        return self.count + self.null


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenVector:
    """A vector of `size` numbers that is given, through two maps with an activation between, or one without."""

    size: int
    hidden: int
    activation: Activation
    bias: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedMaps:
    """The maps that a sublayer's modulations of one name have in common in all layers, those of one copy.

    `copy` is its block's part of parameters' names, empty where there is one copy.
    """

    name: str
    role: str
    copy: str
    modulation: Modulation

    @property
    def path(self) -> str:
        """`apart.attention.caption`."""
        return ".".join((self.name, self.role, *([self.copy] if self.copy else [])))


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition(Parameterised):
    """The vector of `width` numbers of each span of a modality: the sum of what it is made of.

    That is its latent's timestep, a label, a number that is given, and a vector that is given; each may be missing.
    `shared` are maps of it that layers have in common.
    """

    width: int
    timestep: Sinusoids | None = None
    label: Labels | None = None
    number: Sinusoids | None = None
    vector: GivenVector | None = None
    shared: tuple[SharedMaps, ...] = ()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for maps in self.shared:
            shapes |= {f"shared.{maps.path}.{name}": shape for name, shape in maps.modulation.shapes().items()}
        for name, part in self._mapped().items():
            size = part.count if isinstance(part, Sinusoids) else part.size
            for which, shape in {"hidden": (part.hidden, size), "out": (self.width, part.hidden)}.items():
                shapes[f"{name}.{which}.weight"] = shape
                shapes |= {f"{name}.{which}.bias": shape[:1]} if part.bias else {}
        return shapes if self.label is None else {**shapes, "label.weight": (self.label.rows, self.width)}

    def _mapped(self) -> dict[str, Sinusoids | GivenVector]:
        """The parts that go through two maps."""
        parts = {"timestep": self.timestep, "number": self.number, "vector": self.vector}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def given(self) -> tuple[str, ...]:
        """What of it the user gives beside latents and timesteps."""
        return tuple(name for name in ("label", "number", "vector") if getattr(self, name) is not None)

    @property
    def flops(self) -> int:
        return 0

    @property
    def latent_span_flops(self) -> int:
        own = sum(2 * prod(shape) for name, shape in self.shapes().items() if name.split(".")[1:] in MAPS)
        return own + sum(maps.modulation.latent_span_flops for maps in self.shared)

    def __str__(self) -> str:
        """`timestep of 256, label of 1000, maps of apart.attention.text`."""
        sizes = {
            "timestep": self.timestep and self.timestep.count,
            "label": self.label and self.label.count,
            "number": self.number and self.number.count,
            "vector": self.vector and self.vector.size,
        }
        plain = {name: "" if part.bias else " without biases" for name, part in self._mapped().items()}
        parts = [f"{name} of {size}{plain.get(name, '')}" for name, size in sizes.items() if size is not None]
        return ", ".join([*parts, *(f"maps of {maps.path}" for maps in self.shared)])


MAPS = (["hidden", "weight"], ["out", "weight"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive:
    """How norms are adaptive: by which modality's condition, of what width, and what of it.

    With `shared` maps are those of all layers that say the same name; with a `table` each layer adds numbers of its own
    to what these give. What is mapped is the condition's vector, through silu if it is `activated`; where that is not
    `mapped` it is each part itself.
    """

    by: str
    condition_width: int
    parts: tuple[Part, ...] = PARTS
    bias: bool = True
    gate: GateKind = "linear"
    shared: str | None = None
    table: bool = False
    activated: bool = True
    mapped: bool = True

    def of(self, width: int) -> Modulation:
        """The maps of a sublayer whose stream has this width."""
        said = {name: getattr(self, name) for name in ALIKE}
        return Modulation(size=self.condition_width, width=width, **said)

    def of_final(self, width: int) -> Modulation:
        """The maps of the final norm, which has no residual that a gate could be of."""
        parts = tuple(part for part in self.parts if part != "gate")
        table = self.table and self.shared is None
        return replace(self, parts=parts, gate="linear", shared=None, table=table).of(width)

    def __str__(self) -> str:
        """`by image: scale, shift, gate`."""
        parts = (f"tanh of {part}" if part == "gate" and self.gate == "tanh" else part for part in self.parts)
        said = f"by {self.by}: {', '.join(parts)}{'' if self.bias else ', without biases'}"
        said += "" if self.shared is None else f", shared as {self.shared}"
        said += ("" if self.activated else ", without silu") + ("" if self.mapped else ", without maps")
        return said + (", and a table of each layer" if self.table else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Modulation(Parameterised):
    """Maps from the silu of a modality's condition to what its spans' tokens are scaled, shifted and gated by."""

    by: str
    size: int
    width: int
    parts: tuple[Part, ...] = PARTS
    bias: bool = True
    gate: GateKind = "linear"
    shared: str | None = None
    table: bool = False
    activated: bool = True
    mapped: bool = True

    def shapes(self) -> dict[str, tuple[int, ...]]:
        if not self.has_maps:
            return dict.fromkeys(self.parts, (self.width,)) if self.table else {}
        shapes: dict[str, tuple[int, ...]] = {}
        for part in self.parts:
            shapes[f"{part}.weight"] = (self.width, self.size)
            shapes |= {f"{part}.bias": (self.width,)} if self.bias else {}
        return shapes

    @property
    def adaptive(self) -> Adaptive:
        """What of it is the same for streams of any width."""
        return Adaptive(condition_width=self.size, **{name: getattr(self, name) for name in ALIKE})

    @property
    def flops(self) -> int:
        return 0

    @property
    def latent_span_flops(self) -> int:
        return 2 * self.size * self.width * len(self.parts) if self.has_maps else 0

    @property
    def has_maps(self) -> bool:
        """Whether there are maps of its own."""
        return self.mapped and self.shared is None

    def maps(self) -> Modulation:
        """What it shares with other layers, as the maps of one that shares nothing."""
        return replace(self, gate="linear", shared=None, table=False)


ALIKE = ("by", "parts", "bias", "gate", "shared", "table", "activated", "mapped")
"""What a modulation, and how norms are adaptive, both say."""
