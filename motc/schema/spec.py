"""The one schema of both syntaxes. Unknown keys, wrong types and absurd sizes are refused here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from motc.ir.layer import Parallel
from motc.schema.attention import AttentionInLayers, AttentionSpec, TowerAttention, TowerAttentionSpec
from motc.schema.feed_forward import Ffn, FfnAttributes, FfnSpec
from motc.schema.modalities import ModalitySpec, PositionsSpec
from motc.schema.norms import AdaptiveNormAttributes, NormInLayers, NormSpec, TowerNorm
from motc.schema.section import Section
from motc.schema.values import (
    MAX_LAYERS,
    MODALITIES,
    OF_MODALITIES,
    EmbeddingScale,
    LayerNumber,
    LayerNumbers,
    LayerRange,
    Layers,
    Name,
    Positive,
    Size,
    Softcap,
    layer_range,
    name_list_to_mapping,
    none_kind,
    none_word,
    not_null,
    one_statement,
    untie_list,
)


class EmbeddingSpec(Section):
    tied: bool = Field(False, description="the head is the embedding's table")
    scale: EmbeddingScale = Field(1.0, description="what embeddings are multiplied with: a number, or sqrt_width")


class ResidualSpec(Section):
    scale: Positive = Field(1.0, description="what attention and feed-forward make is multiplied with, and added")
    around: Literal["sublayer", "layer"] = Field("sublayer", description="what is added to what comes into it")


class HeadSpec(Section):
    bias: bool = Field(False, description="a bias of each logit")
    scale: Positive = Field(1.0, description="what logits are multiplied with")
    softcap: Softcap = Field(None, description="logits become softcap * tanh(logits / softcap), or none")


class TowerSpec(Section):
    modalities: Annotated[list[Name], OF_MODALITIES] = Field(
        ..., min_length=1, description="the modalities that share this tower"
    )
    width: Size | None = Field(None, description="width of the tower's residual stream; default: the model's")
    attention: TowerAttention = Field(TowerAttentionSpec(), description="attributes of attention for this tower")
    ffn: Ffn = Field(FfnAttributes(), description="attributes of the feed-forward for this tower")
    norm: TowerNorm = Field(TowerNorm(), description="attributes of the norms for this tower")


Beside = Annotated[
    Parallel | None, BeforeValidator(none_word, json_schema_input_type=Parallel | Literal["none"] | None)
]


class TowerInLayers(Section):
    """What may be said of a tower in some layers."""

    attention: TowerAttention = Field(TowerAttentionSpec(), description="what differs in this tower's attention")
    ffn: Ffn = Field(FfnAttributes(), description="what differs in this tower's feed-forward")
    norm: AdaptiveNormAttributes = Field(AdaptiveNormAttributes(), description="what differs in this tower's norms")


class LayersSpec(Section):
    """What some layers have otherwise: a key said here stands, for them, in place of the spec's."""

    layers: Layers = Field(..., description="3, 0..3 with both ends included, or 0..9 step 3")
    attention: Annotated[
        AttentionInLayers, BeforeValidator(none_kind, json_schema_input_type=Literal["none"] | AttentionInLayers)
    ] = Field(AttentionInLayers(), description="what differs in these layers' attention")
    ffn: Ffn = Field(FfnAttributes(), description="what differs in these layers' feed-forward")
    norm: NormInLayers = Field(NormInLayers(), description="what differs in these layers' norms")
    parallel: Beside = Field(None, description="attention and feed-forward side by side in these layers, or none")
    towers: dict[Name, TowerInLayers] = Field({}, description="what differs in a tower in these layers")


class UntieSpec(Section):
    groups: list[str] = Field(..., min_length=1, description="selectors, such as ffn, attention.q or *.norm")
    as_: Annotated[
        list[list[str]] | None, OF_MODALITIES, BeforeValidator(not_null, json_schema_input_type=list[list[str]])
    ] = Field(None, alias="as", description="the partition; default: the towers")
    layers: Annotated[
        LayerNumbers | None, BeforeValidator(layer_range, json_schema_input_type=LayerNumber | LayerRange)
    ] = Field(None, description="3, 0..3 with both ends included, or 0..9 step 3; default: all layers")


class Spec(Section):
    """A whole spec, after `extends` has been followed."""

    model: Name = Field(..., description="the model's name; classes are named after it")
    language: Literal[1] = Field(1, description="the version of the language")
    width: Size = Field(..., description="width of the residual stream")
    layers: Annotated[int, Field(ge=1, le=MAX_LAYERS)] = Field(..., description="how many layers")
    vocab: Size | None = Field(None, description="one vocabulary for all modalities")
    modalities: Annotated[
        Annotated[dict[Name, ModalitySpec], MODALITIES],
        BeforeValidator(
            name_list_to_mapping,
            json_schema_input_type=Annotated[list[Name], MODALITIES, Field(json_schema_extra={"uniqueItems": True})]
            | Annotated[dict[Name, ModalitySpec], MODALITIES],
        ),
    ] = Field(..., description="the modalities, in the order of their ids")
    attention: AttentionSpec
    ffn: Annotated[FfnSpec, BeforeValidator(none_kind, json_schema_input_type=Literal["none"] | FfnSpec)] = FfnSpec()
    norm: NormSpec = NormSpec()
    parallel: Beside = Field(
        None, description="attention and feed-forward side by side, behind one norm or two; or none"
    )
    residual: ResidualSpec = ResidualSpec()
    embedding: EmbeddingSpec = EmbeddingSpec()
    head: HeadSpec = HeadSpec()
    positions: PositionsSpec = PositionsSpec()
    towers: dict[Name, TowerSpec] = Field({}, description="named blocks of modalities with attributes of their own")
    by_layer: Annotated[
        list[LayersSpec],
        BeforeValidator(one_statement, json_schema_input_type=LayersSpec | list[LayersSpec]),
    ] = Field([], description="what some layers have otherwise; later statements override earlier ones")
    untie: Annotated[
        list[UntieSpec],
        BeforeValidator(untie_list, json_schema_input_type=str | UntieSpec | list[str | UntieSpec]),
    ] = Field([], description="which groups have one copy per block; later statements override earlier ones")
