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

    kind: NormKind | None = Field(None, description="`rms`: a weight; `layer`: a weight and a bias")
    eps: Eps | None = Field(None, description="added to the variance (`rms`: to the mean square)")
    offset: Offset | None = Field(None, description="what weights are added to: 0, or 1 as in Gemma")
    weight: bool | None = Field(None, description="whether norms have weights")
    bias: bool | None = Field(
        None, description="with `kind = layer`: whether norms have biases; default: `norm.weight`"
    )


class AdaptiveNormAttributes(NormAttributes):
    """What a tower may say of its norms in some layers, and the model of all."""

    adaptive: Annotated[
        AdaptiveSpec | None,
        OF_MODALITIES,
        BeforeValidator(adaptive_word, json_schema_input_type=Name | Literal["none"] | AdaptiveSpec | None),
    ] = Field(
        None,
        description=(
            "a modality with a condition, or a section: norms are scaled and shifted, and what is added is gated, by it"
        ),
    )


class FinalNorm(AdaptiveNormAttributes):
    """What the final norm has otherwise than the others; of kind none it is what a condition does, without a norm."""

    kind: NormKind | Literal["none"] | None = Field(
        None,
        description=(
            "`rms`, `layer`, or `none`: what a condition does, without a norm, as in AuraFlow; default: `norm.kind`"
        ),
    )  # type: ignore[assignment]


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

    final: Final = Field(
        None,
        description=(
            "a norm before the head: `true`, `false`, or a section of what it has otherwise than the other norms"
        ),
    )
    embedding: bool | None = Field(None, description="a norm of tokens before the first layer")


class NormInLayers(AdaptiveNormAttributes):
    """What may be said of the norms of some layers."""

    placement: Placement = Field(
        "pre",
        description=(
            "`pre`: x + f(norm(x)); `post`: norm(x + f(x)); `sublayer_output`: x + norm(f(x)); `both`: x + "
            "norm(f(norm(x))); `none`: x + f(x)"
        ),
    )


class NormSpec(NormInLayers):
    kind: NormKind = with_default(NormAttributes, "kind", "rms")
    eps: Eps = with_default(NormAttributes, "eps", 1e-5)
    offset: Offset = with_default(NormAttributes, "offset", 0)
    weight: bool = with_default(NormAttributes, "weight", True)
    final: Final = Field(
        None,
        description=(
            "a norm before the head: `true`, `false`, or a section of what it has otherwise than the other "
            "norms; default: unless `placement = post`"
        ),
    )
    embedding: bool = Field(False, description="a norm of tokens before the first layer")
