"""What a spec says of feed-forwards, with experts or without."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from motc.ir.feed_forward import FfnKind
from motc.ir.routing import GroupScore, Routing, Scores
from motc.schema.section import Section, with_default
from motc.schema.values import BalanceWeight, CapacityFactor, ExpertCount, FfnKindName, OutGate, Size, none_kind


class FfnAttributes(Section):
    """What a tower may say of its feed-forward, as the model may."""

    kind: FfnKindName | None = Field(
        None,
        description=(
            "`swiglu`, `geglu`, `geglu_tanh`, `quick_geglu`, `clamped_geglu`, `reglu`, `reglu2` (with a "
            "gate), `silu`, `gelu`, `gelu_tanh`, `quick_gelu`, `relu` or `relu2`; `moe`; or `none`: there is "
            "no feed-forward, and `ffn = none` says the same"
        ),
    )
    hidden: Size | None = Field(
        None,
        description=(
            "hidden size. Default: 8/3 of the width rounded up to a multiple of 256 for kinds with a gate, "
            "else 4 widths"
        ),
    )
    bias: bool | None = Field(None, description="biases on gate, up and down")
    experts: ExpertCount | None = Field(
        None, description="for `kind = moe`, which needs it: how many experts, at most 1024"
    )
    expert: FfnKind | None = Field(
        None,
        description=(
            "for `kind = moe`: the kind of each expert: `swiglu`, `geglu`, `geglu_tanh`, `quick_geglu`, "
            "`clamped_geglu`, `reglu`, `reglu2` (with a gate), `silu`, `gelu`, `gelu_tanh`, `quick_gelu`, "
            "`relu` or `relu2`; default: `swiglu`"
        ),
    )
    shared_experts: ExpertCount | None = Field(
        None, description="for `kind = moe`: how many experts take every token besides"
    )
    routing: Routing | None = Field(
        None,
        description=(
            "for `kind = moe`: `top_k`: tokens choose experts; `expert_choice`: experts choose tokens; default: `top_k`"
        ),
    )
    top_k: ExpertCount | None = Field(None, description="for `top_k`: how many experts a token goes to; default: `2`")
    capacity_factor: CapacityFactor | None = Field(
        None, description="for `expert_choice`: how many experts a token goes to on average; default: `1`"
    )
    balance: BalanceWeight | None = Field(
        None,
        description="for `top_k`: weight of the load-balancing loss; 0: none; default: `0.01`, or 0 with `correction`",
    )
    scores: Scores | None = Field(
        None, description="for `top_k`: what is made of the router's logits: `softmax` or `sigmoid`; default: `softmax`"
    )
    normalise: bool | None = Field(
        None, description="for `top_k`: whether a token's weights are scaled to add up to 1; default: `true`"
    )
    routed_scale: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        None, description="for `top_k`: what a token's weights are multiplied by, after that; default: `1`"
    )
    correction: bool | None = Field(
        None,
        description=(
            "for `top_k`: a number for each expert is added to its score, for choosing alone; default: `false`"
        ),
    )
    groups: ExpertCount | None = Field(
        None, description="for `top_k`: how many groups of one size the experts are in; default: `1`"
    )
    top_groups: ExpertCount | None = Field(
        None, description="for `top_k`: how many groups a token's experts are chosen from; default: `ffn.groups`"
    )
    group_score: GroupScore | None = Field(
        None,
        description=(
            "for `groups`: what a group is worth: the sum of its `best_two` experts, or its `best` one; "
            "default: `best_two`"
        ),
    )
    shared_hidden: Size | None = Field(
        None, description="for `shared_experts`: the hidden size of each; default: `ffn.hidden`"
    )
    shared_gate: bool | None = Field(
        None,
        description=(
            "for `shared_experts`: whether a token takes a share of them, the sigmoid of a product; default: `false`"
        ),
    )
    router_bias: bool | None = Field(
        None, description="for `kind = moe`: whether the router's logits have biases; default: `false`"
    )
    out_gate: OutGate | None = Field(
        None, description="`tanh`: what the feed-forward adds is multiplied by the tanh of a number"
    )


Ffn = Annotated[FfnAttributes, BeforeValidator(none_kind, json_schema_input_type=Literal["none"] | FfnAttributes)]


class FfnSpec(FfnAttributes):
    kind: FfnKindName = with_default(FfnAttributes, "kind", "swiglu")
    bias: bool = with_default(FfnAttributes, "bias", False)
