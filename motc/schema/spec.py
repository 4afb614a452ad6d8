"""The one schema of both syntaxes. Unknown keys, wrong types and absurd sizes are refused here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from motc.ir.attention import HeadNormPlace
from motc.ir.feed_forward import FfnKind
from motc.ir.latent import EndsKind
from motc.ir.layer import Parallel, Placement
from motc.ir.mask import MaskKind
from motc.ir.model import Objective
from motc.ir.operators import Activation, NormKind
from motc.ir.positions import AdvanceWord, PlacingKind
from motc.ir.rope import Arrangement, RopePairing, ScalingKind
from motc.ir.routing import GroupScore, Routing, Scores
from motc.schema.values import (
    AXES,
    MAX_LAYERS,
    MODALITIES,
    AttentionKind,
    BalanceWeight,
    CapacityFactor,
    EmbeddingScale,
    Eps,
    ExpertCount,
    FfnKindName,
    LayerNumber,
    LayerNumbers,
    LayerRange,
    Layers,
    Name,
    Names,
    Offset,
    Patch,
    Period,
    PositionNumber,
    Positive,
    RopeTheta,
    Size,
    Softcap,
    SomeLayers,
    SomeNames,
    Turns,
    Window,
    layer_range,
    mask_word,
    name_list_to_mapping,
    none_kind,
    none_word,
    norm_word,
    not_null,
    one_statement,
    some_runs,
    takes_none,
    untie_list,
)


class Section(BaseModel):
    """Frozen, strict (no text for a number, no number for true), and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def said(self) -> dict[str, Any]:
        """The keys that the section says, with their values. A null says nothing where none is no value of the key."""
        said = {name: field for name, field in type(self).model_fields.items() if name in self.model_fields_set}
        values = {name: (getattr(self, name), field) for name, field in said.items()}
        return {name: value for name, (value, field) in values.items() if value is not None or takes_none(field)}


def with_default(section: type[Section], name: str, default: Any) -> Any:
    """A key that `section` has without a default, with one; it means the same."""
    return Field(default, description=section.model_fields[name].description)


class UnetSpec(Section):
    channels: Annotated[int, Field(ge=1, le=2**14)] = Field(576, description="channels at the first level")
    blocks: Annotated[int, Field(ge=1, le=64)] = Field(3, description="residual blocks a level, on each side")


class TimeSpec(Section):
    """How a token is told its timestep; which keys a kind has is checked when the spec is lowered."""

    kind: Literal["added", "concat"] = Field("added", description="added to the token, or mixed with it by two maps")
    min_period: Period | None = Field(None, description="for concat: of its sinusoids; default: 0.004")
    max_period: Period | None = Field(None, description="for concat: of its sinusoids; default: 4")


class LatentSpec(Section):
    """What a continuous modality is made of; how its parts go together is checked when the spec is lowered."""

    channels: Size = Field(..., description="channels of a latent")
    patch: Patch = Field(
        ..., description="a token is a patch of so many rows and columns, or of so many along each axis of a list"
    )
    ends: EndsKind = Field("linear", description="what makes tokens of patches, and back")
    unet: UnetSpec | None = Field(None, description="sizes of a U-Net, for ends = unet")
    time: Annotated[
        TimeSpec, BeforeValidator(mask_word, json_schema_input_type=Literal["added", "concat"] | TimeSpec)
    ] = Field(TimeSpec(), description="how linear ends are told the timestep: a word, or a section")
    objective: Objective = Field("ddpm", description="what is predicted: the noise, or a velocity")
    weight: float = Field(1.0, gt=0, le=1e6, description="of the denoising loss in the total")


class NormAttributes(Section):
    """What a tower may say of its norms, as the model may."""

    kind: NormKind | None = Field(None, description="the kind of all norms but those of heads")
    eps: Eps | None = Field(None, description="added to the variance")
    offset: Offset | None = Field(None, description="what weights are added to: 0, or 1 as in Gemma")
    weight: bool | None = Field(None, description="whether norms have weights")
    bias: bool | None = Field(None, description="for kind = layer: whether norms have biases; default: weight")


class ProjectorSpec(Section):
    """What is between a feature and the stream; how its parts go together is checked when the spec is lowered."""

    kind: Literal["linear", Activation] = Field(
        "linear", description="one linear map, or two with this activation between"
    )
    hidden: Size | None = Field(None, description="numbers between two maps; default: the width")
    bias: bool = Field(True, description="biases on the maps")
    norm: Annotated[
        NormAttributes | None,
        BeforeValidator(norm_word, json_schema_input_type=Literal["none", NormKind] | NormAttributes | None),
    ] = Field(None, description="a norm of the feature before the maps: a word, a section, or none")


class FeaturesSpec(Section):
    """Vectors of an encoder of the user's."""

    size: Size = Field(..., description="numbers of a vector")
    projector: Annotated[
        ProjectorSpec | None, BeforeValidator(none_word, json_schema_input_type=ProjectorSpec | Literal["none"] | None)
    ] = Field(ProjectorSpec(), description="what brings a vector to the stream's width, or none")
    added_after: SomeLayers = Field(
        None, description="layers after each of which a further vector is added to a token's state, or none"
    )


class SpanPositionsSpec(Section):
    """How a modality's tokens are placed where positions are not given; a span is an unbroken run of it."""

    kind: PlacingKind = Field("consecutive", description="how the tokens of a span are placed")
    start: PositionNumber | None = Field(None, description="where each span begins; default: at the next position")
    advance: PositionNumber | AdvanceWord | None = Field(
        None, description="how much further it goes on after a span; default: tokens; 1 for same; extent for grid"
    )
    delimiters: bool = Field(False, description="for same: the tokens before and after a span are part of it")


class PositionsSpec(Section):
    first: PositionNumber = Field(0, description="the first position of each document")
    learned: Annotated[
        Size | None, BeforeValidator(none_word, json_schema_input_type=Size | Literal["none"] | None)
    ] = Field(None, description="a table of so many positions, whose rows are added to tokens; default: none")


class ModalitySpec(Section):
    vocab: Size | None = Field(None, description="rows of the modality's own vocabulary; ids are local to it")
    latent: LatentSpec | None = Field(None, description="makes it a continuous modality, which has no vocabulary")
    features: FeaturesSpec | None = Field(None, description="makes its tokens vectors that are given, not ids")
    weight: float | None = Field(
        None, ge=0, le=1e6, description="of each of its targets in the mean cross-entropy; default: 1"
    )
    seen_targets: bool | None = Field(
        None, description="whether a target counts that the token before it sees; default: false"
    )
    positions: SpanPositionsSpec | None = Field(None, description="how its tokens are placed; default: one by one")

    @property
    def continuous(self) -> Literal["latent", "features"] | None:
        """The section that makes it a continuous modality, if one does."""
        if self.latent is not None:
            return "latent"
        return None if self.features is None else "features"


class ScalingSpec(Section):
    """How rotary frequencies are scaled; which keys a kind has is checked when the spec is lowered."""

    kind: ScalingKind = Field(..., description="how frequencies are scaled, as transformers' rope_type")
    factor: float = Field(..., ge=1, le=1e6, description="how much further positions are to reach")
    original_length: Size | None = Field(
        None, description="for dynamic, llama3 and yarn, which need it: the positions that the model was trained with"
    )
    low_freq_factor: Turns | None = Field(None, description="for llama3: waves fewer to the length are low; default: 1")
    high_freq_factor: Turns | None = Field(
        None, description="for llama3: waves more to the length are high; default: 4"
    )
    beta_fast: Turns | None = Field(None, description="for yarn: turns from which a pair is left; default: 32")
    beta_slow: Turns | None = Field(None, description="for yarn: turns to which it is scaled; default: 1")
    attention_factor: float | None = Field(
        None, gt=0, le=1e3, description="for yarn: of cosine and sine; default: 0.1 ln(factor) + 1"
    )
    truncate: bool | None = Field(None, description="for yarn: the ramp ends at whole pairs; default: true")


class RopeSpec(Section):
    theta: RopeTheta | Annotated[list[RopeTheta], AXES] = Field(
        10000.0, description="base of the rotary frequencies; with `axes` a list may have each axis's own"
    )
    pairing: RopePairing = Field(
        "half", description="which components rotate together: (i, i + d/2) or (2i, 2i + 1), d being how many do"
    )
    fraction: float = Field(1.0, gt=0, le=1, description="of a head: as many of its first components rotate")
    scaling: Annotated[
        ScalingSpec | None, BeforeValidator(none_word, json_schema_input_type=ScalingSpec | Literal["none"] | None)
    ] = Field(None, description="of the frequencies, for positions beyond those of training; default: none")
    sections: Annotated[list[Size], AXES] | None = Field(
        None, description="positions on several axes: how many pairs of components turn by each; default: one axis"
    )
    arrangement: Arrangement | None = Field(
        None, description="for sections: how the axes' pairs lie among each other; default: split"
    )
    axes: Annotated[list[Size], AXES] | None = Field(
        None, description="positions on several axes, each with frequencies of its own: how many components it has"
    )


class MaskSpec(Section):
    """Modalities may be named by their tower; what goes together is checked when the spec is lowered."""

    kind: MaskKind = Field("causal", description="whom a token sees in its document")
    prefix: SomeNames = Field(None, description="for kind = prefix: leading tokens of these see each other")
    bidirectional: SomeNames = Field(
        None, description="with causal and prefix: an unbroken run of one of these sees all of itself"
    )
    runs: Annotated[list[Names] | None, BeforeValidator(some_runs, json_schema_input_type=str | list[Names])] = Field(
        None, description="with causal and prefix: an unbroken run of any of these together sees all of itself"
    )
    blocks: Annotated[list[Names] | None, BeforeValidator(not_null, json_schema_input_type=list[Names])] = Field(
        None, description="for kind = blocks: disjoint, in order; each sees itself and those before it"
    )
    sees: dict[str, Names] = Field({}, description="whom a modality or tower sees at most; one not named: everyone")
    detach: dict[str, Names] = Field(
        {}, description="whose keys and values a modality or tower reads without gradient; one not named: no one's"
    )


class QkNormSpec(Section):
    """The norm of queries and keys; its eps is `qk_norm_eps`."""

    kind: NormKind = Field(..., description="rms or layer")
    offset: Offset | None = Field(None, description="what weights are added to; default: norm.offset")
    weight: bool = Field(True, description="whether it has weights")
    bias: bool | None = Field(None, description="for kind = layer: whether it has biases; default: norm.bias")
    over: Literal["head", "heads"] = Field("head", description="over each head by itself, or over all heads together")
    by_head: bool | None = Field(None, description="whether each head has its own weights; default: if kind is layer")
    place: HeadNormPlace = Field("before_rope", description="before or after positions are rotated in")


class AttentionAttributes(Section):
    """What a tower may say of its attention, as the model may; heads and scores may only be said again."""

    kind: AttentionKind | None = Field(None, description="softmax, or none: there is no attention")
    heads: Size | None = Field(None, description="query heads")
    kv_heads: Size | None = Field(None, description="key and value heads; default: heads")
    head_dim: Size | None = Field(None, description="size of a head; default: width / heads")
    bias: bool | None = Field(None, description="biases on q, k, v, and on out unless out_bias says otherwise")
    out_bias: bool | None = Field(None, description="bias on the output projection; default: bias")
    qk_norm: Annotated[
        QkNormSpec | None,
        BeforeValidator(norm_word, json_schema_input_type=Literal["none", NormKind] | QkNormSpec | None),
    ] = Field(None, description="norm of queries and keys: a word, a section, or none")
    qk_norm_eps: Eps | None = Field(None, description="eps of qk_norm; default: norm.eps")
    scale: Positive | None = Field(None, description="what scores are multiplied with; default: 1 / sqrt(head_dim)")
    softcap: Softcap = Field(None, description="scores become softcap * tanh(scores / softcap), or none")


class TowerRopeSpec(Section):
    """What a tower may say of rotary positions."""

    theta: RopeTheta | None = Field(None, description="base of the frequencies by which its queries and keys turn")


class TowerAttentionSpec(AttentionAttributes):
    """What a tower may say of its attention."""

    rope: TowerRopeSpec | None = Field(None, description="what differs in its rotary positions")
    reads: SomeNames = Field(
        None, description="its tokens see these alone, whose keys and values go through maps of its own; default: none"
    )


Mask = Annotated[MaskSpec, BeforeValidator(mask_word, json_schema_input_type=MaskKind | MaskSpec)]
Rope = Annotated[RopeSpec | None, BeforeValidator(none_word, json_schema_input_type=RopeSpec | Literal["none"] | None)]


class AttentionInLayers(AttentionAttributes):
    """What may be said of the attention of some layers."""

    mask: Mask = Field(MaskSpec(), description="who sees whom: a word, or a section")
    window: Window = Field(None, description="how many tokens back one sees, itself included; or none")
    rope: Rope = Field(RopeSpec(), description="rotary positions, or none")
    gate: bool = Field(False, description="whether what attention makes is multiplied by sigmoids of the stream")
    sinks: bool = Field(False, description="whether each head has a logit beside its scores that brings no value")


class AttentionSpec(AttentionInLayers):
    heads: Size = with_default(AttentionAttributes, "heads", ...)
    kind: AttentionKind = with_default(AttentionAttributes, "kind", "softmax")
    bias: bool = with_default(AttentionAttributes, "bias", False)


class FfnAttributes(Section):
    """What a tower may say of its feed-forward, as the model may."""

    kind: FfnKindName | None = Field(None, description="the feed-forward's activation, with a gate or without; or moe")
    hidden: Size | None = Field(
        None, description="hidden size; default: 8/3 width rounded up to 256 if gated, else 4 width"
    )
    bias: bool | None = Field(None, description="biases on gate, up and down")
    experts: ExpertCount | None = Field(None, description="for kind = moe: how many experts")
    expert: FfnKind | None = Field(None, description="for kind = moe: each expert's kind; default: swiglu")
    shared_experts: ExpertCount | None = Field(
        None, description="for kind = moe: experts every token goes to as well, in one feed-forward; default: none"
    )
    routing: Routing | None = Field(
        None, description="for kind = moe: tokens choose experts (top_k, the default), or experts choose tokens"
    )
    top_k: ExpertCount | None = Field(None, description="for top_k: how many experts a token goes to; default: 2")
    capacity_factor: CapacityFactor | None = Field(
        None, description="for expert_choice: how many experts a token goes to on average; default: 1"
    )
    balance: BalanceWeight | None = Field(
        None, description="for top_k: weight of the load-balancing loss; default: 0.01, or 0 with a correction"
    )
    scores: Scores | None = Field(
        None, description="for top_k: what is made of the router's logits, softmax (the default) or sigmoid"
    )
    normalise: bool | None = Field(
        None, description="for top_k: whether a token's weights are scaled to add up to 1; default: true"
    )
    routed_scale: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        None, description="for top_k: what a token's weights are multiplied by; default: 1"
    )
    correction: bool | None = Field(
        None, description="for top_k: a number for each expert that is added to its score for choosing; default: false"
    )
    groups: ExpertCount | None = Field(None, description="for top_k: groups that the experts are in; default: 1")
    top_groups: ExpertCount | None = Field(
        None, description="for top_k: how many groups a token's experts are chosen from; default: all"
    )
    group_score: GroupScore | None = Field(
        None, description="for groups: what a group is worth, its best_two experts (the default) or its best one"
    )
    shared_hidden: Size | None = Field(
        None, description="for shared_experts: the hidden size of each; default: that of the others"
    )
    shared_gate: bool | None = Field(
        None, description="for shared_experts: whether a token takes a share of them; default: false"
    )
    router_bias: bool | None = Field(
        None, description="for kind = moe: whether the router's logits have biases; default: false"
    )


TowerAttention = Annotated[
    TowerAttentionSpec, BeforeValidator(none_kind, json_schema_input_type=Literal["none"] | TowerAttentionSpec)
]
Ffn = Annotated[FfnAttributes, BeforeValidator(none_kind, json_schema_input_type=Literal["none"] | FfnAttributes)]


class FfnSpec(FfnAttributes):
    kind: FfnKindName = with_default(FfnAttributes, "kind", "swiglu")
    bias: bool = with_default(FfnAttributes, "bias", False)


class TowerNorm(NormAttributes):
    """What a tower may say of its norms."""

    final: bool | None = Field(None, description="a norm before the head; default: the model's")


class NormInLayers(NormAttributes):
    """What may be said of the norms of some layers."""

    placement: Placement = Field(
        "pre", description="x + f(norm(x)), norm(x + f(x)), x + norm(f(x)), or x + norm(f(norm(x)))"
    )


class NormSpec(NormInLayers):
    kind: NormKind = with_default(NormAttributes, "kind", "rms")
    eps: Eps = with_default(NormAttributes, "eps", 1e-5)
    offset: Offset = with_default(NormAttributes, "offset", 0)
    weight: bool = with_default(NormAttributes, "weight", True)
    final: bool | None = Field(None, description="a norm before the head; default: unless placement is post")


class EmbeddingSpec(Section):
    tied: bool = Field(False, description="the head is the embedding's table")
    scale: EmbeddingScale = Field(1.0, description="what embeddings are multiplied with: a number, or sqrt_width")


class HeadSpec(Section):
    bias: bool = Field(False, description="a bias of each logit")
    scale: Positive = Field(1.0, description="what logits are multiplied with")
    softcap: Softcap = Field(None, description="logits become softcap * tanh(logits / softcap), or none")


class TowerSpec(Section):
    modalities: list[Name] = Field(..., min_length=1, description="the modalities that share this tower")
    width: Size | None = Field(None, description="width of the tower's residual stream; default: the model's")
    attention: TowerAttention = Field(TowerAttentionSpec(), description="attributes of attention for this tower")
    ffn: Ffn = Field(FfnAttributes(), description="attributes of the feed-forward for this tower")
    norm: TowerNorm = Field(TowerNorm(), description="attributes of the norms for this tower")


class TowerInLayers(Section):
    """What may be said of a tower in some layers."""

    attention: TowerAttention = Field(TowerAttentionSpec(), description="what differs in this tower's attention")
    ffn: Ffn = Field(FfnAttributes(), description="what differs in this tower's feed-forward")
    norm: NormAttributes = Field(NormAttributes(), description="what differs in this tower's norms")


class LayersSpec(Section):
    """What some layers have otherwise: a key said here stands, for them, in place of the spec's."""

    layers: Layers = Field(..., description="3, 0..3 with both ends included, or 0..9 step 3")
    attention: Annotated[
        AttentionInLayers, BeforeValidator(none_kind, json_schema_input_type=Literal["none"] | AttentionInLayers)
    ] = Field(AttentionInLayers(), description="what differs in these layers' attention")
    ffn: Ffn = Field(FfnAttributes(), description="what differs in these layers' feed-forward")
    norm: NormInLayers = Field(NormInLayers(), description="what differs in these layers' norms")
    towers: dict[Name, TowerInLayers] = Field({}, description="what differs in a tower in these layers")


class UntieSpec(Section):
    groups: list[str] = Field(..., min_length=1, description="selectors, such as ffn, attention.q or *.norm")
    as_: Annotated[list[list[str]] | None, BeforeValidator(not_null, json_schema_input_type=list[list[str]])] = Field(
        None, alias="as", description="the partition; default: the towers"
    )
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
    parallel: Annotated[
        Parallel | None, BeforeValidator(none_word, json_schema_input_type=Parallel | Literal["none"] | None)
    ] = Field(None, description="attention and feed-forward side by side, behind one norm or two; or none")
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
