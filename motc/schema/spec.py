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
    scale: EmbeddingScale = Field(
        1.0, description="what embeddings are multiplied with: a number, or `sqrt_width`, the root of the tower's width"
    )


class ResidualSpec(Section):
    scale: Positive = Field(
        1.0, description="what attention and feed-forward make is multiplied with, before it is added"
    )
    around: Literal["sublayer", "layer"] = Field(
        "sublayer",
        description=(
            "`layer`: the feed-forward is added to what came into the layer, and reads what attention adds to"
            " that, as in AuraFlow"
        ),
    )


class HeadSpec(Section):
    bias: bool = Field(False, description="a bias of each logit, unless the head is tied")
    scale: Positive = Field(1.0, description="what logits are multiplied with")
    softcap: Softcap = Field(None, description="c: logits become c · tanh(logit / c)")


class TowerSpec(Section):
    modalities: Annotated[list[Name], OF_MODALITIES] = Field(
        ..., min_length=1, description="the modalities that share this tower"
    )
    width: Size | None = Field(None, description="width of these modalities' residual stream; default: `width`")
    attention: TowerAttention = Field(TowerAttentionSpec(), description="what differs in this tower's attention")
    ffn: Ffn = Field(FfnAttributes(), description="what differs in this tower's feed-forward")
    norm: TowerNorm = Field(TowerNorm(), description="what differs in this tower's norms")


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

    layers: Layers = Field(
        ..., description="which layers: `3`, `0..3` with both ends included, or `0..9 step 3`; layers count from 0"
    )
    attention: Annotated[
        AttentionInLayers, BeforeValidator(none_kind, json_schema_input_type=Literal["none"] | AttentionInLayers)
    ] = Field(AttentionInLayers(), description="what differs in these layers' attention: any keys of `attention`")
    ffn: Ffn = Field(FfnAttributes(), description="what differs in these layers' feed-forward: any keys of `ffn`")
    norm: NormInLayers = Field(
        NormInLayers(),
        description="what differs in these layers' norms: any keys of `norm` but `final` and `embedding`",
    )
    parallel: Beside = Field(
        None, description="attention and feed-forward side by side, behind `one_norm` or `two_norms`"
    )
    towers: dict[Name, TowerInLayers] = Field(
        {}, description="by the name of a tower, any keys of its `attention`, `ffn` and `norm`; in `.mot`: `tower`"
    )


class UntieSpec(Section):
    groups: list[str] = Field(..., min_length=1, description="selectors, such as `ffn`, `attention.q` or `*.norm`")
    as_: Annotated[
        list[list[str]] | None, OF_MODALITIES, BeforeValidator(not_null, json_schema_input_type=list[list[str]])
    ] = Field(None, alias="as", description="the partition; default: the towers")
    layers: Annotated[
        LayerNumbers | None, BeforeValidator(layer_range, json_schema_input_type=LayerNumber | LayerRange)
    ] = Field(
        None,
        description=(
            "in which layers: `3`, `0..3` with both ends included, or `0..9 step 3`; layers count from 0; "
            "default: all layers"
        ),
    )


class Spec(Section):
    """A whole spec, after `extends` has been followed."""

    model: Name = Field(..., description="the model's name; the generated classes are named after it")
    language: Literal[1] = Field(1, description="the version of the language; `1` is the only one")
    width: Size = Field(..., description="width of the residual stream")
    layers: Annotated[int, Field(ge=1, le=MAX_LAYERS)] = Field(
        ..., description="how many layers, at most 4096, of at most 512 kinds"
    )
    vocab: Size | None = Field(
        None, description="rows of one vocabulary for all modalities; without it each modality has its own"
    )
    modalities: Annotated[
        Annotated[dict[Name, ModalitySpec], MODALITIES],
        BeforeValidator(
            name_list_to_mapping,
            json_schema_input_type=Annotated[list[Name], MODALITIES, Field(json_schema_extra={"uniqueItems": True})]
            | Annotated[dict[Name, ModalitySpec], MODALITIES],
        ),
    ] = Field(..., description="the modalities, in the order of their ids; in `.mot`: `modality`")
    attention: AttentionSpec = Field(..., description="the attention of every layer")
    ffn: Annotated[FfnSpec, BeforeValidator(none_kind, json_schema_input_type=Literal["none"] | FfnSpec)] = Field(
        FfnSpec(), description="the feed-forward of every layer"
    )
    norm: NormSpec = Field(NormSpec(), description="the norms of every layer, and the final one")
    parallel: Beside = Field(
        None, description="attention and feed-forward side by side, behind `one_norm` or `two_norms`"
    )
    residual: ResidualSpec = Field(ResidualSpec(), description="how the sublayers join the stream")
    embedding: EmbeddingSpec = Field(EmbeddingSpec(), description="what makes states of token ids")
    head: HeadSpec = Field(HeadSpec(), description="what makes logits")
    positions: PositionsSpec = Field(PositionsSpec(), description="positions where they are not given")
    towers: dict[Name, TowerSpec] = Field({}, description="named groups of modalities; in `.mot`: `tower`")
    by_layer: Annotated[
        list[LayersSpec],
        BeforeValidator(one_statement, json_schema_input_type=LayersSpec | list[LayersSpec]),
    ] = Field([], description="what some layers have otherwise; in `.mot`: `layers 0..3 { … }`")
    untie: Annotated[
        list[UntieSpec],
        BeforeValidator(untie_list, json_schema_input_type=str | UntieSpec | list[str | UntieSpec]),
    ] = Field([], description="which groups have one copy per block")
