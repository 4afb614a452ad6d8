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
    out_gate: OutGate | None = Field(None, description="tanh: what it adds is multiplied by the tanh of a number")


Ffn = Annotated[FfnAttributes, BeforeValidator(none_kind, json_schema_input_type=Literal["none"] | FfnAttributes)]


class FfnSpec(FfnAttributes):
    kind: FfnKindName = with_default(FfnAttributes, "kind", "swiglu")
    bias: bool = with_default(FfnAttributes, "bias", False)
