"""What a spec says of conditions: what a span's vector is made of, and which norms are adaptive by it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from motc.ir.condition import PARTS, GateKind, Part
from motc.ir.operators import Activation
from motc.schema.section import Section
from motc.schema.values import OF_MODALITIES, Name, Period, Positive, Size, none_word


class SinusoidsSpec(Section):
    """Cosines and sines of a number, and two maps; which keys go together is checked when the spec is lowered."""

    size: Size = Field(256, description="how many cosines and sines there are together")
    hidden: Size | None = Field(
        None, description="numbers between two maps, silu between; default: the condition's width"
    )
    max_period: Period | None = Field(
        None,
        description=(
            "frequencies fall from 1 to nearly 1 over this; with `min_period`, the longest period; default: `10000`"
        ),
    )
    min_period: Period | None = Field(
        None, description="periods from this to `max_period`, 1 being 1000 of it, sines first, as in π0"
    )
    scale: Positive = Field(1.0, description="what it is multiplied with")
    closed: bool = Field(False, description="whether the last frequency is 1 / `max_period` itself")
    bias: bool = Field(True, description="biases on the maps")


class LabelSpec(Section):
    count: Size = Field(..., description="how many labels there are")
    null: bool = Field(True, description="a row more, the last, that stands for no label")


class VectorSpec(Section):
    size: Size = Field(..., description="numbers of the vector")
    kind: Activation = Field(
        "silu",
        description="the activation between the maps: `silu`, `gelu`, `gelu_tanh`, `quick_gelu`, `relu` or `relu2`",
    )
    hidden: Size | None = Field(None, description="numbers between the maps; default: the condition's width")
    bias: bool = Field(True, description="biases on the maps")


class ConditionSpec(Section):
    """The sum of what it names; how its parts go together is checked when the spec is lowered."""

    width: Size | None = Field(
        None, description="numbers of the vector that the parts add up to; default: the width of its stream"
    )
    timestep: SinusoidsSpec | None = Field(None, description="a part made of the latent's timestep")
    label: LabelSpec | None = Field(None, description="a part that is a row of a table")
    number: SinusoidsSpec | None = Field(None, description="a part made of a number that is given, as a guidance scale")
    vector: VectorSpec | None = Field(None, description="a part made of a vector that is given, through two maps")


class AdaptiveSpec(Section):
    by: Annotated[Name, OF_MODALITIES] = Field(..., description="the modality whose condition norms have")
    parts: Annotated[list[Part], Field(min_length=1)] = Field(
        [*PARTS], description="which there are of `scale` and `shift`, of what norms give, and `gate`, of what is added"
    )
    bias: bool = Field(True, description="biases on the maps that make them")
    gate: GateKind = Field("linear", description="`linear`: the gate as its map gives it; `tanh`: the tanh of that")
    shared: Annotated[Name | None, BeforeValidator(none_word, json_schema_input_type=Name | Literal["none"] | None)] = (
        Field(None, description="a name: the maps are those of all layers that say the same name")
    )
    table: bool = Field(False, description="with `shared`, or without maps: each layer adds numbers of its own")
    activation: Literal["silu", "none"] = Field(
        "silu", description="`silu` or `none`: what the condition's vector goes through before the maps"
    )
    map: bool = Field(
        True,
        description=(
            "whether there are maps; without them scale, shift and gate are each that vector, which is as "
            "wide as the stream"
        ),
    )
