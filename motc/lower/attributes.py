"""What each modality's tower makes of the model's attributes, all defaults filled in."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any, assert_never

from motc.ir.attention import HeadNormPlace
from motc.ir.attributes import LayerAttributes, OuterAttributes, Vocabulary
from motc.ir.condition import PARTS, Adaptive, Condition, GivenVector, Labels, Sinusoids
from motc.ir.feed_forward import GATED, FfnKind, Moe
from motc.ir.latent import TIME_FREQUENCIES, ConcatTime, LatentEnds, PlaceTable, SineTable, Unet
from motc.ir.layer import Parallel, Placements
from motc.ir.low_rank import Ranks
from motc.ir.operators import HeadNorm, Norm, NormKind, Projector
from motc.ir.routing import Choice
from motc.lower.rope import theta_of
from motc.schema import Spec
from motc.schema.attention import QkNormSpec
from motc.schema.conditions import AdaptiveSpec, ConditionSpec, SinusoidsSpec
from motc.schema.feed_forward import FfnSpec
from motc.schema.modalities import FeaturesSpec, LatentSpec, ProjectorSpec, TimeSpec, UnetSpec
from motc.schema.norms import FinalNorm, NormAttributes, NormSpec
from motc.schema.spec import TowerSpec
from motc.schema.values import TowerAttentionKind

BY_TOWER = ("rope", "reads", "cross")
"""What towers alone say of attention, and what they say otherwise than the model."""


def layer_attributes(spec: Spec, tower: TowerSpec | None) -> LayerAttributes:
    """What a layer is to modalities in `tower` (None: no overrides), with all defaults filled in."""
    attention, norm, width = spec.attention, spec.norm, spec.width
    if tower is not None:
        said = {key: value for key, value in tower.attention.said().items() if key not in BY_TOWER}
        attention = attention.model_copy(update=said)
        norm = norm.model_copy(update=tower.norm.said())
        width = tower.width or width
    ffn = feed_forward(spec, tower)
    kind = ffn_kind(ffn, spec.ffn)
    hidden = 0 if kind is None else ffn.hidden or default_hidden(width, kind)
    attended, crossed = attends(spec, tower), is_crossed(spec, tower)
    heads, kv_heads, head_dim = heads_of(spec) if attended or crossed else (0, 0, 0)
    keys_only = attention_kind(spec, tower) == "keys"
    asks = attended and not keys_only
    crosses = asks and tower is not None and bool(tower.attention.cross)
    return LayerAttributes(
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        value_dim=value_dim_of(spec) if heads > 0 else None,
        ranks=_ranks(spec) if heads > 0 else None,
        attention_bias=heads > 0 and attention.bias,
        out_bias=heads > 0 and (attention.bias if attention.out_bias is None else attention.out_bias),
        attention_gate=asks and attention.gate,
        reads=asks and tower is not None and bool(tower.attention.reads),
        attention_sinks=asks and attention.sinks,
        crosses=crosses,
        crossed=crossed,
        keys_only=keys_only,
        attention_out_gate=asks and attention.out_gate == "tanh",
        ffn_out_gate=kind is not None and ffn.out_gate == "tanh",
        qk_norm=_head_norm(attention.qk_norm, norm) if heads > 0 else None,
        qk_norm_eps=attention.qk_norm_eps or norm.eps,
        rope_theta=theta_of(spec.attention.rope, tower) if attended and not crosses else None,
        ffn_kind=kind,
        hidden=hidden,
        ffn_bias=ffn.bias and kind is not None,
        moe=mixture(ffn, hidden),
        placements=_placements(spec.parallel, norm.placement),
        adaptive=None if norm.adaptive is None else _adaptive(spec, norm.adaptive),
        **_form(norm),
    )


def _form(norm: NormSpec) -> dict[str, Any]:
    """The attributes that say what a norm is."""
    return {
        "norm_kind": norm.kind,
        "norm_eps": norm.eps,
        "norm_offset": norm.offset if norm.weight else 0,
        "norm_weight": norm.weight,
        "norm_bias": _has_bias(norm.kind, norm.weight, norm.bias),
    }


def _adaptive(spec: Spec, said: AdaptiveSpec) -> Adaptive:
    """How norms are adaptive; the order of parts means nothing."""
    parts = tuple(part for part in PARTS if part in said.parts)
    width = condition_width(spec, said.by)
    return Adaptive(
        by=said.by,
        condition_width=width,
        parts=parts,
        bias=said.bias,
        gate=said.gate,
        shared=said.shared,
        table=said.table,
        activated=said.activation == "silu",
        mapped=said.map,
    )


def condition_width(spec: Spec, modality: str) -> int:
    """How many numbers a modality's conditions have: unless said, as its stream."""
    condition = spec.modalities[modality].condition
    if condition is not None and condition.width is not None:
        return condition.width
    return stream_width(spec, modality)


def stream_width(spec: Spec, modality: str) -> int:
    """The width of a modality's stream."""
    towers = spec.towers.values()
    return next((tower.width for tower in towers if modality in tower.modalities and tower.width), spec.width)


def _condition(said: ConditionSpec, width: int) -> Condition:
    label, vector = said.label, said.vector
    return Condition(
        width=width,
        timestep=None if said.timestep is None else _sinusoids(said.timestep, width),
        label=None if label is None else Labels(count=label.count, null=label.null),
        number=None if said.number is None else _sinusoids(said.number, width),
        vector=None
        if vector is None
        else GivenVector(size=vector.size, hidden=vector.hidden or width, activation=vector.kind, bias=vector.bias),
    )


def _sinusoids(said: SinusoidsSpec, width: int) -> Sinusoids:
    waves = Sinusoids(count=said.size, hidden=said.hidden or width, bias=said.bias)
    if said.min_period is not None and said.max_period is not None:
        return replace(waves, periods=(float(said.min_period), float(said.max_period)))
    longest = waves.max_period if said.max_period is None else float(said.max_period)
    return replace(waves, max_period=longest, scale=float(said.scale), closed=said.closed)


def _placements(parallel: Parallel | None, placement: str) -> Placements:
    """Where norms stand: in parallel behind one norm, the feed-forward has none of its own."""
    if parallel == "one_norm":
        return Placements.of_roles({"attention": placement, "ffn": "none"})
    return Placements(everywhere=placement)


def attends(spec: Spec, tower: TowerSpec | None) -> bool:
    """Whether a tower has attention."""
    return attention_kind(spec, tower) != "none"


def attention_kind(spec: Spec, tower: TowerSpec | None) -> TowerAttentionKind:
    """The kind of a tower's attention: what it does not say, the model does."""
    return spec.attention.kind if tower is None else tower.attention.kind or spec.attention.kind


def crossing(spec: Spec) -> dict[str, TowerSpec]:
    """The towers whose tokens attend to others alone."""
    return {name: each for name, each in spec.towers.items() if each.attention.cross and attends(spec, each)}


def is_crossed(spec: Spec, tower: TowerSpec | None) -> bool:
    """Whether a tower without attention of its own has keys and values for others."""
    if tower is None or attends(spec, tower):
        return False
    named = {name for each in crossing(spec).values() for name in each.attention.cross or ()}
    own = next((name for name, each in spec.towers.items() if each is tower), "")
    return bool(named & {own, *tower.modalities})


def _head_norm(said: QkNormSpec | None, norm: NormSpec) -> HeadNorm | None:
    """What the norm of queries and keys is; offset and bias are as the others' unless it says otherwise."""
    if said is None:
        return None
    offset = norm.offset if said.offset is None else said.offset
    by_head = said.kind == "layer" if said.by_head is None else said.by_head
    return HeadNorm(
        kind=said.kind,
        offset=offset if said.weight else 0,
        weight=said.weight,
        bias=_has_bias(said.kind, said.weight, norm.bias if said.bias is None else said.bias),
        over_heads=said.over == "heads",
        by_head=by_head and said.over == "head",
    )


def _has_bias(kind: NormKind, weight: bool, said: bool | None) -> bool:
    """Whether a norm has what biases its kind has: unless said, if it has weights."""
    match kind:
        case "rms":
            return True
        case "layer":
            return weight if said is None else said
        case _:
            assert_never(kind)


def outer_attributes(spec: Spec, name: str, tower: TowerSpec | None, layer: LayerAttributes) -> OuterAttributes:
    """What is outside the layers, to a modality of a tower to which the layers are `layer`."""
    modality = spec.modalities[name]
    shared = None if spec.vocab is None else Vocabulary(spec.vocab, own=False)
    own = None if modality.vocab is None else Vocabulary(modality.vocab, own=True)
    norm = spec.norm if tower is None else spec.norm.model_copy(update=tower.norm.said())
    final, adaptive = final_norm(norm), final_adaptive(norm)
    first = spec.norm.embedding
    if tower is not None and tower.norm.embedding is not None:
        first = tower.norm.embedding
    return OuterAttributes(
        width=layer.width,
        vocab=None if modality.continuous else own or shared,
        latent=None if modality.latent is None else _latent_ends(modality.latent, layer.width),
        features=None if modality.features is None else _projector(spec, modality.features, layer.width),
        tied=spec.embedding.tied,
        learned_positions=spec.positions.learned,
        embedding_scale=1.0 if modality.continuous else _embedding_scale(spec, layer.width),
        head_bias=spec.head.bias and not modality.continuous,
        norm_final=final is not None,
        norm_embedding=first,
        embedding_norm=None if final is None or _form(final) == _form(norm) else _norm(norm, layer.width),
        **_form(final or norm),
        condition=None if modality.condition is None else _condition(modality.condition, condition_width(spec, name)),
        adaptive=None if adaptive is None else _adaptive(spec, adaptive),
    )


def final_norm(norm: NormSpec) -> NormSpec | None:
    """What the final norm is, where the others are said to be `norm`; None where there is none."""
    if isinstance(norm.final, FinalNorm):
        return None if norm.final.kind == "none" else norm.model_copy(update=norm.final.said())
    has_one = norm.placement != "post" if norm.final is None else norm.final
    return norm if has_one else None


def final_adaptive(norm: NormSpec) -> AdaptiveSpec | None:
    """What a condition does where layers end: to what the final norm gives, or to states as they are."""
    final = final_norm(norm)
    if final is None and isinstance(norm.final, FinalNorm):
        return norm.model_copy(update=norm.final.said()).adaptive
    return None if final is None else final.adaptive


def _embedding_scale(spec: Spec, width: int) -> float:
    scale = spec.embedding.scale
    return math.sqrt(width) if isinstance(scale, str) else scale


def heads_of(spec: Spec) -> tuple[int, int, int]:
    """Query heads, key and value heads, and the size of one: they are the same in all towers."""
    heads = spec.attention.heads
    return heads, spec.attention.kv_heads or heads, spec.attention.head_dim or max(1, spec.width // heads)


def value_dim_of(spec: Spec) -> int | None:
    """The size of a head's values; None where it is that of queries and keys."""
    *_, head_dim = heads_of(spec)
    return None if spec.attention.value_dim == head_dim else spec.attention.value_dim


def _ranks(spec: Spec) -> Ranks | None:
    """The sizes of low-rank attention, the same in all towers; None where it is not."""
    said = spec.attention.low_rank
    if said is None:
        return None
    return Ranks(kv=said.kv, q=said.q, rope_dim=said.rope_dim, eps=float(said.eps or spec.norm.eps))


def rotated_head(spec: Spec) -> int:
    """The size of what rotary positions are of: a head, or as much of it as is for that."""
    *_, head_dim = heads_of(spec)
    return head_dim if spec.attention.low_rank is None else spec.attention.low_rank.rope_dim


def norm_place(spec: Spec) -> HeadNormPlace:
    """Whether norms of queries and keys stand before or after positions are rotated in: alike in all towers."""
    said = (attention.qk_norm for attention in (spec.attention, *(tower.attention for tower in spec.towers.values())))
    return next((norm.place for norm in said if norm is not None), "before_rope")


def scale_of(spec: Spec) -> float | None:
    """What scores are multiplied with; None for 1 / sqrt(head_dim), also where that is said."""
    *_, head_dim = heads_of(spec)
    scale = spec.attention.scale
    return None if scale is None or math.isclose(scale, head_dim**-0.5, rel_tol=1e-15) else float(scale)


def _latent_ends(latent: LatentSpec, width: int) -> LatentEnds:
    sizes = latent.unet or UnetSpec()
    unet = Unet(channels=sizes.channels, blocks=sizes.blocks) if latent.ends == "unet" else None
    time = None
    if latent.time.kind == "concat":
        shortest, longest = periods(latent.time)
        time = ConcatTime(min_period=shortest, max_period=longest)
    return LatentEnds(
        channels=latent.channels,
        patch=_patch(latent.patch),
        width=width,
        unet=unet,
        time=time,
        untimed=latent.time.kind == "none",
        time_scale=float(latent.time.scale or 1.0),
        time_size=latent.time.size or TIME_FREQUENCIES,
        table=_table(latent),
        bias=latent.bias is not False,
        out_bias=latent.has_out_bias,
        variances=latent.objective.variance == "learned",
    )


def _table(latent: LatentSpec) -> SineTable | PlaceTable | None:
    """What tells a token its place."""
    if latent.learned is not None:
        rows, columns = latent.learned.rows, latent.learned.columns or latent.learned.rows
        return PlaceTable(rows=rows, columns=columns, fit=latent.learned.fit)
    return None if latent.sine is None else SineTable(base=latent.sine.base, crop=latent.sine.crop)


def periods(time: TimeSpec) -> tuple[float, float]:
    """The shortest and the longest period of a timestep's sinusoids; as in pi0 unless said."""
    return float(time.min_period or 0.004), float(time.max_period or 4.0)


def _projector(spec: Spec, features: FeaturesSpec, width: int) -> Projector:
    """What is between a feature and a stream of this width.

    Where there is to be nothing and the width is another, which it is in the dense twin of a narrower tower, there is
    one linear map.
    """
    size, added = features.size, () if features.added_after is None else tuple(features.added_after.numbers)
    if features.projector is None and size == width:
        return Projector(kind="none", size=size, width=width, hidden=None, bias=True, norm=None, added_after=added)
    said = features.projector or ProjectorSpec()
    norm = None if said.norm is None else projector_norm(spec, said.norm)
    return Projector(
        kind=said.kind,
        size=size,
        width=width,
        hidden=None if said.kind == "linear" else said.hidden or width,
        bias=said.bias,
        added_after=added,
        norm=None if norm is None else _norm(norm, size),
    )


def _norm(norm: NormSpec, size: int) -> Norm:
    """What is said of a norm, as one of vectors of a size."""
    return Norm(
        kind=norm.kind,
        shape=(size,),
        eps=norm.eps,
        offset=norm.offset if norm.weight else 0,
        weight=norm.weight,
        bias=_has_bias(norm.kind, norm.weight, norm.bias),
    )


def projector_norm(spec: Spec, said: NormAttributes) -> NormSpec:
    """A projector's norm: of the model's kind and eps unless it says otherwise, and plain."""
    return NormSpec(kind=spec.norm.kind, eps=spec.norm.eps).model_copy(update=said.said())


def _patch(said: int | list[int]) -> int | tuple[int, ...]:
    """A patch by its axes; that of an image by a number, where it is a square."""
    if isinstance(said, int):
        return said
    return said[0] if len(said) == 2 and said[0] == said[1] else tuple(said)


def feed_forward(spec: Spec, tower: TowerSpec | None) -> FfnSpec:
    """What a tower's feed-forward is said to be: what the tower does not say, the model does."""
    return spec.ffn if tower is None else spec.ffn.model_copy(update=tower.ffn.said())


def ffn_kind(ffn: FfnSpec, model: FfnSpec) -> FfnKind | None:
    """The kind of a feed-forward, or None where there is none.

    That of its experts is by default the model's, or swiglu if its own has experts or none.
    """
    if ffn.kind == "none":
        return None
    if ffn.kind != "moe":
        return ffn.kind
    return ffn.expert or (model.kind if model.kind != "moe" and model.kind != "none" else "swiglu")


def mixture(ffn: FfnSpec, hidden: int) -> Moe | None:
    """The mixture of experts of size `hidden` that a feed-forward is, if it is one."""
    if ffn.kind != "moe":
        return None
    routing, experts, shared = ffn.routing or "top_k", ffn.experts or 1, ffn.shared_experts or 0
    choice = Choice()
    match routing:
        case "expert_choice":
            per_token, balance = Fraction(repr(ffn.capacity_factor or 1.0)), 0.0
        case "top_k":
            choice = _choice(ffn)
            usual = 0.0 if choice.corrected else 0.01
            per_token, balance = Fraction(ffn.top_k or 2), usual if ffn.balance is None else float(ffn.balance)
        case _:
            assert_never(routing)
    return Moe(
        experts=experts,
        routing=routing,
        per_token=per_token,
        balance=balance,
        shared=shared,
        shared_hidden=None if not shared or ffn.shared_hidden == hidden else ffn.shared_hidden,
        shared_gate=bool(shared and ffn.shared_gate),
        choice=choice,
        router_bias=bool(ffn.router_bias),
    )


def _choice(ffn: FfnSpec) -> Choice:
    """How a token chooses its experts. Groups that are all chosen from are as none."""
    groups = ffn.groups or 1
    top_groups = ffn.top_groups or groups
    grouped = Choice() if top_groups == groups else Choice(groups=groups, top_groups=top_groups)
    if grouped.groups > 1 and ffn.group_score is not None:
        grouped = replace(grouped, group_score=ffn.group_score)
    return replace(
        grouped,
        scores=ffn.scores or "softmax",
        normalised=ffn.normalise is not False,
        scale=float(ffn.routed_scale or 1.0),
        corrected=bool(ffn.correction),
    )


def default_hidden(width: int, kind: FfnKind) -> int:
    """Llama's rule: 8/3 of the width rounded up to a multiple of 256 for a gated FFN; four widths otherwise."""
    return -(-(8 * width // 3) // 256) * 256 if kind in GATED else 4 * width
