"""What a spec says of attention: heads, scores, masks and rotary positions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from motc.ir.attention import HeadNormPlace
from motc.ir.mask import MaskKind
from motc.ir.operators import NormKind
from motc.ir.rope import Arrangement, RopePairing, ScalingKind
from motc.schema.section import Section, with_default
from motc.schema.values import (
    AXES,
    AttentionKind,
    Eps,
    Names,
    Offset,
    OutGate,
    Positive,
    RopeTheta,
    Size,
    Softcap,
    SomeNames,
    TowerAttentionKind,
    Turns,
    Window,
    attention_kind,
    mask_word,
    none_word,
    norm_word,
    not_null,
    some_runs,
)


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
    delimiters: bool = Field(False, description="the tokens before and after a run that sees all of itself are in it")
    hide_noised: SomeNames = Field(
        None,
        description="modalities of `bidirectional` with latents of which a noised span is seen by itself alone",
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


class LowRankSpec(Section):
    """Multi-head latent attention: keys and values, and it may be queries, are made of few numbers of a token."""

    kv: Size = Field(..., description="of how many numbers a token's keys and values are made (kv_lora_rank)")
    q: Annotated[Size | None, BeforeValidator(none_word, json_schema_input_type=Size | Literal["none"] | None)] = Field(
        None, description="of how many its queries are made (q_lora_rank), or none: of the stream"
    )
    rope_dim: Size = Field(
        ..., description="of a key's head_dim components, how many are the same in all heads, and rotate"
    )
    eps: Eps | None = Field(None, description="eps of the norms of these numbers; default: norm.eps")


class AttentionAttributes(Section):
    """What a tower may say of its attention, as the model may; heads and scores may only be said again."""

    kind: TowerAttentionKind | None = Field(
        None, description="softmax; none: there is no attention; or of a tower keys: it has keys and values alone"
    )
    heads: Size | None = Field(None, description="query heads")
    kv_heads: Size | None = Field(None, description="key and value heads; default: heads")
    head_dim: Size | None = Field(None, description="size of a head; default: width / heads")
    value_dim: Size | None = Field(None, description="size of a head's values; default: head_dim")
    bias: bool | None = Field(None, description="biases on q, k, v, and on out unless out_bias says otherwise")
    out_bias: bool | None = Field(None, description="bias on the output projection; default: bias")
    qk_norm: Annotated[
        QkNormSpec | None,
        BeforeValidator(norm_word, json_schema_input_type=Literal["none", NormKind] | QkNormSpec | None),
    ] = Field(None, description="norm of queries and keys: a word, a section, or none")
    qk_norm_eps: Eps | None = Field(None, description="eps of qk_norm; default: norm.eps")
    scale: Positive | None = Field(None, description="what scores are multiplied with; default: 1 / sqrt(head_dim)")
    softcap: Softcap = Field(None, description="scores become softcap * tanh(scores / softcap), or none")
    clip: Softcap = Field(
        None, description="queries, keys and values are cut off at so much and at minus that, or none"
    )
    gate: bool | None = Field(None, description="whether what attention makes is multiplied by sigmoids of the stream")
    sinks: bool | None = Field(None, description="whether each head has a logit beside its scores that brings no value")
    out_gate: OutGate | None = Field(None, description="tanh: what it adds is multiplied by the tanh of a number")


class TowerRopeSpec(Section):
    """What a tower may say of rotary positions."""

    theta: RopeTheta | None = Field(None, description="base of the frequencies by which its queries and keys turn")


class TowerAttentionSpec(AttentionAttributes):
    """What a tower may say of its attention."""

    rope: TowerRopeSpec | None = Field(None, description="what differs in its rotary positions")
    reads: SomeNames = Field(
        None, description="its tokens see these alone, whose keys and values go through maps of its own; default: none"
    )
    cross: SomeNames = Field(
        None, description="its tokens attend to these alone, which have keys and values there and nothing else"
    )


Mask = Annotated[MaskSpec, BeforeValidator(mask_word, json_schema_input_type=MaskKind | MaskSpec)]
Rope = Annotated[RopeSpec | None, BeforeValidator(none_word, json_schema_input_type=RopeSpec | Literal["none"] | None)]

LowRank = Annotated[
    LowRankSpec | None, BeforeValidator(none_word, json_schema_input_type=LowRankSpec | Literal["none"] | None)
]


class AttentionInLayers(AttentionAttributes):
    """What may be said of the attention of some layers."""

    kind: AttentionKind | None = with_default(AttentionAttributes, "kind", None)
    mask: Mask = Field(MaskSpec(), description="who sees whom: a word, or a section")
    window: Window = Field(None, description="how many tokens back one sees, itself included; or none")
    rope: Rope = Field(RopeSpec(), description="rotary positions, or none")
    low_rank: LowRank = Field(None, description="keys and values of low rank, or none")


class AttentionSpec(AttentionInLayers):
    heads: Size = with_default(AttentionAttributes, "heads", ...)
    kind: AttentionKind = with_default(AttentionAttributes, "kind", "softmax")
    bias: bool = with_default(AttentionAttributes, "bias", False)
    gate: bool = with_default(AttentionAttributes, "gate", False)
    sinks: bool = with_default(AttentionAttributes, "sinks", False)


TowerAttention = Annotated[
    TowerAttentionSpec,
    BeforeValidator(attention_kind, json_schema_input_type=Literal["none", "keys"] | TowerAttentionSpec),
]
