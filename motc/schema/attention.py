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

    kind: ScalingKind = Field(
        ...,
        description=(
            "how frequencies are scaled, as transformers' `rope_type`: `linear`, `dynamic`, `llama3` or `yarn`"
        ),
    )
    factor: float = Field(..., ge=1, le=1e6, description="how much further positions are to reach, 1 at least")
    original_length: Size | None = Field(
        None, description="for `dynamic`, `llama3` and `yarn`, which need it: how many positions there were in training"
    )
    low_freq_factor: Turns | None = Field(
        None, description="for `llama3`: a wave that fits fewer times into that length is slowed; default: `1`"
    )
    high_freq_factor: Turns | None = Field(
        None, description="for `llama3`: a wave that fits more often is left as it is; default: `4`"
    )
    beta_fast: Turns | None = Field(
        None,
        description="for `yarn`: a pair that turns as often in that length, or more, is left as it is; default: `32`",
    )
    beta_slow: Turns | None = Field(
        None, description="for `yarn`: a pair that turns as often, or less, is slowed; default: `1`"
    )
    attention_factor: float | None = Field(
        None,
        gt=0,
        le=1e3,
        description="for `yarn`: what cosine and sine are multiplied by; default: 0.1 ln(factor) + 1",
    )
    truncate: bool | None = Field(
        None, description="for `yarn`: what lies between begins and ends at whole pairs; default: `true`"
    )


class RopeSpec(Section):
    theta: RopeTheta | Annotated[list[RopeTheta], AXES] = Field(
        10000.0, description="base of the rotary frequencies; with `axes` it may be a list, each axis's own"
    )
    pairing: RopePairing = Field(
        "half",
        description=(
            "which of the d components that rotate go together: `half` (i, i + d/2) or `interleaved` (2i, 2i + 1)"
        ),
    )
    fraction: float = Field(
        1.0, gt=0, le=1, description="how much of a head rotates: as many of its first components, an even number"
    )
    scaling: Annotated[
        ScalingSpec | None, BeforeValidator(none_word, json_schema_input_type=ScalingSpec | Literal["none"] | None)
    ] = Field(None, description="frequencies for longer texts than those of training")
    sections: Annotated[list[Size], AXES] | None = Field(
        None, description="positions on several axes: how many pairs of components turn by each"
    )
    arrangement: Arrangement | None = Field(
        None,
        description=(
            "for `sections`: how the pairs of axes lie: `split`, `interleaved` or `spatial_first`; default: `split`"
        ),
    )
    axes: Annotated[list[Size], AXES] | None = Field(
        None, description="positions on several axes, each with frequencies of its own: how many components it has"
    )


class MaskSpec(Section):
    """Modalities may be named by their tower; what goes together is checked when the spec is lowered."""

    kind: MaskKind = Field(
        "causal",
        description=(
            "`causal`: a token sees those before it and itself; `full`: it sees all; `prefix` and `blocks`: see Masks"
        ),
    )
    prefix: SomeNames = Field(None, description="for `kind = prefix`: the modalities of the prefix")
    bidirectional: SomeNames = Field(
        None, description="with `causal` and `prefix`: modalities whose unbroken runs see all of themselves"
    )
    runs: Annotated[list[Names] | None, BeforeValidator(some_runs, json_schema_input_type=str | list[Names])] = Field(
        None,
        description=(
            "with `causal` and `prefix`: a list of lists of modalities; an unbroken run of any of a list sees"
            " all of itself"
        ),
    )
    delimiters: bool = Field(
        False, description="with `bidirectional` and `runs`: the tokens before and after a run are in it"
    )
    hide_noised: SomeNames = Field(
        None,
        description="modalities of `bidirectional` with latents, of which a noised span is seen by itself alone",
    )
    blocks: Annotated[list[Names] | None, BeforeValidator(not_null, json_schema_input_type=list[Names])] = Field(
        None, description="for `kind = blocks`: a list of blocks, in order"
    )
    sees: dict[str, Names] = Field(
        {}, description="a restriction of any mask: whom a modality, or a tower's modalities, see"
    )
    detach: dict[str, Names] = Field(
        {}, description="whose keys and values a modality, or a tower's modalities, read without gradient"
    )


class QkNormSpec(Section):
    """The norm of queries and keys; its eps is `qk_norm_eps`."""

    kind: NormKind = Field(..., description="`rms` or `layer`")
    offset: Offset | None = Field(None, description="what its weights are added to: 0 or 1; default: `norm.offset`")
    weight: bool = Field(True, description="whether it has weights")
    bias: bool | None = Field(None, description="with `kind = layer`: whether it has biases; default: `norm.bias`")
    over: Literal["head", "heads"] = Field(
        "head", description="over each `head` by itself, or over all `heads` of a token together"
    )
    by_head: bool | None = Field(
        None,
        description=(
            "with `over = head`: whether each head has weights of its own, or all share them; default: if `layer`"
        ),
    )
    place: HeadNormPlace = Field(
        "before_rope",
        description="`before_rope` or `after_rope`: before positions are rotated in, or after; the same in all towers",
    )


class LowRankSpec(Section):
    """Multi-head latent attention: keys and values, and it may be queries, are made of few numbers of a token."""

    kv: Size = Field(..., description="of how many numbers a token's keys and values are made")
    q: Annotated[Size | None, BeforeValidator(none_word, json_schema_input_type=Size | Literal["none"] | None)] = Field(
        None, description="of how many its queries are made; `none`: of the stream"
    )
    rope_dim: Size = Field(
        ..., description="how many of the head_dim components of a key are one for all heads, and rotate"
    )
    eps: Eps | None = Field(None, description="eps of the norms of these numbers; default: `norm.eps`")


class AttentionAttributes(Section):
    """What a tower may say of its attention, as the model may; heads and scores may only be said again."""

    kind: TowerAttentionKind | None = Field(
        None,
        description=(
            "`softmax`, or `none`: no attention, and `attention = none` says the same; of a tower also "
            "`keys`: keys and values alone"
        ),
    )
    heads: Size | None = Field(None, description="query heads, the same for all towers")
    kv_heads: Size | None = Field(
        None, description="key and value heads; they must divide the query heads; default: `attention.heads`"
    )
    head_dim: Size | None = Field(None, description="size of a head, the same for all towers; default: width / heads")
    value_dim: Size | None = Field(
        None, description="size of a head's values, the same for all towers; default: `attention.head_dim`"
    )
    bias: bool | None = Field(None, description="biases on q, k, v, and on out unless `out_bias` says otherwise")
    out_bias: bool | None = Field(None, description="a bias on the output projection; default: `attention.bias`")
    qk_norm: Annotated[
        QkNormSpec | None,
        BeforeValidator(norm_word, json_schema_input_type=Literal["none", NormKind] | QkNormSpec | None),
    ] = Field(
        None, description="norm of queries and keys: `none`, or a section; `qk_norm = rms` is `qk_norm { kind = rms }`"
    )
    qk_norm_eps: Eps | None = Field(None, description="eps of that norm; default: `norm.eps`")
    scale: Positive | None = Field(
        None, description="what scores, the products of queries and keys, are multiplied with; default: 1 / √head_dim"
    )
    softcap: Softcap = Field(None, description="c: scores become c · tanh(score / c)")
    clip: Softcap = Field(
        None, description="c: queries, keys and values are cut off at c and −c, before they are normed and rotated"
    )
    gate: bool | None = Field(
        None, description="what attention makes is multiplied by the sigmoid of a product of the stream"
    )
    sinks: bool | None = Field(None, description="each head has a logit beside a token's scores that brings no value")
    out_gate: OutGate | None = Field(
        None, description="`tanh`: what attention adds is multiplied by the tanh of a number that starts at 0"
    )


class TowerRopeSpec(Section):
    """What a tower may say of rotary positions."""

    theta: RopeTheta | None = Field(
        None, description="base of the rotary frequencies; with `axes` it may be a list, each axis's own"
    )


class TowerAttentionSpec(AttentionAttributes):
    """What a tower may say of its attention."""

    rope: TowerRopeSpec | None = Field(None, description="what differs in this tower's rotary positions")
    reads: SomeNames = Field(None, description="its tokens see these modalities alone, through maps of its own")
    cross: SomeNames = Field(
        None,
        description="its tokens attend to these modalities alone, which have keys and values there and nothing else",
    )


Mask = Annotated[MaskSpec, BeforeValidator(mask_word, json_schema_input_type=MaskKind | MaskSpec)]
Rope = Annotated[RopeSpec | None, BeforeValidator(none_word, json_schema_input_type=RopeSpec | Literal["none"] | None)]

LowRank = Annotated[
    LowRankSpec | None, BeforeValidator(none_word, json_schema_input_type=LowRankSpec | Literal["none"] | None)
]


class AttentionInLayers(AttentionAttributes):
    """What may be said of the attention of some layers."""

    kind: AttentionKind | None = with_default(AttentionAttributes, "kind", None)
    mask: Mask = Field(MaskSpec(), description="who sees whom; `mask = full` is `mask { kind = full }`")
    window: Window = Field(None, description="a token sees itself and so many less one before it; 2 at least")
    rope: Rope = Field(RopeSpec(), description="rotary positions, or `none`")
    low_rank: LowRank = Field(
        None, description="keys and values, and it may be queries, made of few numbers: multi-head latent attention"
    )


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
