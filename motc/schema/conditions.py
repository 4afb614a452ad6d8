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
    hidden: Size | None = Field(None, description="numbers between the two maps; default: the condition's width")
    max_period: Period | None = Field(None, description="the longest period, divided by 2 pi; default: 10000")
    min_period: Period | None = Field(None, description="periods from this to max_period, 1 being all of the noise")
    scale: Positive = Field(1.0, description="what the number is multiplied with")
    closed: bool = Field(False, description="whether the longest period is reached, or just not")
    bias: bool = Field(True, description="biases on the two maps")


class LabelSpec(Section):
    count: Size = Field(..., description="how many labels there are")
    null: bool = Field(True, description="a row more, that stands for no label")


class VectorSpec(Section):
    size: Size = Field(..., description="numbers of the vector that is given for a span")
    kind: Activation = Field("silu", description="the activation between its two maps")
    hidden: Size | None = Field(None, description="numbers between the two maps; default: the condition's width")
    bias: bool = Field(True, description="biases on the two maps")


class ConditionSpec(Section):
    """The sum of what it names; how its parts go together is checked when the spec is lowered."""

    width: Size | None = Field(None, description="numbers of the vector; default: the width of the modality's stream")
    timestep: SinusoidsSpec | None = Field(None, description="a part made of the latent's timestep")
    label: LabelSpec | None = Field(None, description="a part that is a row of a table")
    number: SinusoidsSpec | None = Field(None, description="a part made of a number, such as a guidance scale")
    vector: VectorSpec | None = Field(None, description="a part made of a vector, such as a caption's")


class AdaptiveSpec(Section):
    by: Annotated[Name, OF_MODALITIES] = Field(..., description="the modality whose condition norms have")
    parts: Annotated[list[Part], Field(min_length=1)] = Field(
        [*PARTS], description="what is made of it: scale and shift of what norms give, gate of what is added"
    )
    bias: bool = Field(True, description="biases on the maps that make them")
    gate: GateKind = Field("linear", description="the gate as its map gives it, or the tanh of that")
    shared: Annotated[Name | None, BeforeValidator(none_word, json_schema_input_type=Name | Literal["none"] | None)] = (
        Field(None, description="the maps are those of all layers that say this name")
    )
    table: bool = Field(False, description="numbers of its own are added to what shared maps, or none, give")
    activation: Literal["silu", "none"] = Field("silu", description="what the condition's vector goes through first")
    map: bool = Field(True, description="whether there are maps; without them each part is the vector itself")
