"""What a spec says of norms."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from motc.ir.layer import Placement
from motc.ir.operators import NormKind
from motc.schema.conditions import AdaptiveSpec
from motc.schema.section import Section, with_default
from motc.schema.values import OF_MODALITIES, SECTION, TRUE_OR_FALSE, Eps, Name, Offset, adaptive_word, word_or_section


class NormAttributes(Section):
    """What a tower may say of its norms, as the model may."""

    kind: NormKind | None = Field(None, description="the kind of all norms but those of heads")
    eps: Eps | None = Field(None, description="added to the variance")
    offset: Offset | None = Field(None, description="what weights are added to: 0, or 1 as in Gemma")
    weight: bool | None = Field(None, description="whether norms have weights")
    bias: bool | None = Field(None, description="for kind = layer: whether norms have biases; default: weight")


class AdaptiveNormAttributes(NormAttributes):
    """What a tower may say of its norms in some layers, and the model of all."""

    adaptive: Annotated[
        AdaptiveSpec | None,
        OF_MODALITIES,
        BeforeValidator(adaptive_word, json_schema_input_type=Name | Literal["none"] | AdaptiveSpec | None),
    ] = Field(None, description="norms are scaled and shifted, and what is added is gated, by a condition; or none")


class FinalNorm(AdaptiveNormAttributes):
    """What the final norm has otherwise than the others; of kind none it is what a condition does, without a norm."""

    kind: NormKind | Literal["none"] | None = Field(None, description="the kind, or none: a condition alone")  # type: ignore[assignment]


Final = (
    Annotated[
        Annotated[bool, Tag(TRUE_OR_FALSE)] | Annotated[FinalNorm, Tag(SECTION)],
        Discriminator(word_or_section),
    ]
    | None
)
"""Whether there is a final norm, or what it has otherwise than the others."""


class TowerNorm(AdaptiveNormAttributes):
    """What a tower may say of its norms."""

    final: Final = Field(None, description="a norm before the head, or what it has otherwise; default: the model's")
    embedding: bool | None = Field(None, description="a norm of tokens before the first layer; default: the model's")


class NormInLayers(AdaptiveNormAttributes):
    """What may be said of the norms of some layers."""

    placement: Placement = Field(
        "pre",
        description="x + f(norm(x)), norm(x + f(x)), x + norm(f(x)), x + norm(f(norm(x))), or without norms x + f(x)",
    )


class NormSpec(NormInLayers):
    kind: NormKind = with_default(NormAttributes, "kind", "rms")
    eps: Eps = with_default(NormAttributes, "eps", 1e-5)
    offset: Offset = with_default(NormAttributes, "offset", 0)
    weight: bool = with_default(NormAttributes, "weight", True)
    final: Final = Field(
        None, description="a norm before the head, or what it has otherwise; default: unless placement is post"
    )
    embedding: bool = Field(False, description="a norm of tokens before the first layer")
