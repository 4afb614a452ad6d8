"""The IR in the hand-written reference's words: the only bridge between the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar, assert_never

from motc.ir.attention import Attention
from motc.ir.condition import Condition, Sinusoids
from motc.ir.denoising import Weighting
from motc.ir.feed_forward import FeedForward, Mixture
from motc.ir.latent import PlaceTable, SineTable
from motc.ir.layer import Body, Layer, Placement, Sublayer
from motc.ir.leaf import Block, Leaf
from motc.ir.mask import Mask
from motc.ir.model import FeatureModality, Model
from motc.ir.names import parameter_prefix
from motc.ir.operators import Embedding, LatentEnds, Modulation, Norm
from motc.ir.rope import Rope, kind_of
from motc.ir.routing import Choice
from motc.reference import (
    ReferenceAttention,
    ReferenceChoice,
    ReferenceCondition,
    ReferenceConfig,
    ReferenceFeatures,
    ReferenceFeedForward,
    ReferenceLatent,
    ReferenceLayer,
    ReferenceMask,
    ReferenceModulation,
    ReferenceMoe,
    ReferenceNoising,
    ReferenceNorm,
    ReferenceRope,
    ReferenceRule,
    ReferenceScaling,
    ReferenceSinusoids,
    ReferenceSublayer,
)

Value = TypeVar("Value")


def reference_config(model: Model) -> ReferenceConfig:
    """The reference's settings for a model, with the parameter names the generated module has."""
    modalities = tuple(modality.name for modality in model.modalities)
    layers = (
        _layer(segment.layer, index, modalities)
        for segment in model.segments
        for index in range(segment.first, segment.last + 1)
    )
    return ReferenceConfig(
        modalities=modalities,
        own_vocabularies=model.vocab is None,
        layers=tuple(layers),
        embedding={} if model.embedding is None else _prefixes(model.embedding, None),
        head=_prefixes(model.head, None) if model.head else None,
        final_norm_prefixes=_prefixes(model.final_norm, None) if model.final_norm else {},
        final_norms=_norms(model.final_norm) if model.final_norm else {},
        embedding_norm_prefixes=_prefixes(model.embedding_norm, None) if model.embedding_norm else {},
        embedding_norms=_norms(model.embedding_norm) if model.embedding_norm else {},
        latents={
            modality.name: ReferenceLatent(
                blocks=modality.ends.unet.blocks if modality.ends.unet else None,
                channels=modality.ends.channels,
                patch=modality.ends.patch_shape,
                periods=_periods(modality.ends),
                untimed=modality.ends.untimed,
                time_scale=modality.ends.time_scale,
                time_size=modality.ends.time_size,
                width=modality.ends.width,
                **_table(modality.ends),
                objective=modality.objective,
                weight=modality.weight,
                noising=ReferenceNoising(
                    **{each.name: getattr(modality.noising, each.name) for each in fields(modality.noising)}
                ),
                **_weighting(modality.weighting),
                prefix=f"latents.{modality.name}",
            )
            for modality in model.latent_modalities()
        },
        features={modality.name: _features(modality) for modality in model.feature_modalities()},
        embedding_scale={
            name: block.operator.scale
            for block in (() if model.embedding is None else model.embedding.blocks)
            for name in block.modalities
            if isinstance(block.operator, Embedding)
        },
        logit_scale=model.logit_scale,
        logit_softcap=model.logit_softcap,
        target_weights={modality.name: modality.loss.weight for modality in model.token_modalities()},
        position_rules=position_rules(model),
        first_position=model.first_position,
        position_axes=model.position_axes,
        position_embedding=_prefixes(model.position_table, None) if model.position_table else {},
        conditions={
            modality.name: _condition(modality.name, modality.condition)
            for modality in model.latent_modalities()
            if modality.condition is not None
        },
        final_modulations={} if model.final_modulation is None else _modulations(model.final_modulation, None),
        unseen_only=tuple(m.name for m in model.token_modalities() if m.loss.seen_targets is False),
    )


def _table(ends: LatentEnds) -> dict[str, Any]:
    """What tells tokens their places."""
    match ends.table:
        case None:
            return {}
        case SineTable(base=base, crop=crop):
            return {"sines": (base, crop)}
        case PlaceTable(rows=rows, columns=columns, fit=fit):
            return {"places": (rows, columns, fit == "interpolate")}
        case _:
            assert_never(ends.table)


def _periods(ends: LatentEnds) -> tuple[float, float] | None:
    return None if ends.time is None else (ends.time.min_period, ends.time.max_period)


def _weighting(weighting: Weighting | None) -> dict[str, Any]:
    return {} if weighting is None else {"weighting": weighting.kind, "gamma": weighting.gamma}


def _condition(name: str, condition: Condition) -> ReferenceCondition:
    return ReferenceCondition(
        prefix=f"conditions.{name}",
        width=condition.width,
        timestep=_sinusoids(condition.timestep),
        number=_sinusoids(condition.number),
        label=condition.label is not None,
        activation=None if condition.vector is None else condition.vector.activation,
    )


def _sinusoids(waves: Sinusoids | None) -> ReferenceSinusoids | None:
    if waves is None:
        return None
    alike = {field.name: getattr(waves, field.name) for field in fields(waves) if field.name not in ("hidden", "bias")}
    return ReferenceSinusoids(**alike)


def _maps_prefix(leaf: Leaf, block: Block, layer: int | None) -> str:
    """Where a modulation's maps are: in its layer, or with the condition where layers share them."""
    made = block.operator
    if not isinstance(made, Modulation) or made.shared is None:
        return parameter_prefix(leaf, block, layer)
    copy = [block.name] if block.name else []
    return ".".join(("conditions", made.by, "shared", made.shared, leaf.path.partition(".")[0], *copy))


def _modulations(leaf: Leaf, layer: int | None) -> dict[str, ReferenceModulation]:
    return {
        m: ReferenceModulation(
            by=block.operator.by,
            prefix=_maps_prefix(leaf, block, layer),
            table=parameter_prefix(leaf, block, layer) if block.operator.table else None,
            parts=block.operator.parts,
            gate=block.operator.gate,
            activated=block.operator.activated,
            mapped=block.operator.mapped,
        )
        for block in leaf.blocks
        if isinstance(block.operator, Modulation)
        for m in block.modalities
    }


def _features(modality: FeatureModality) -> ReferenceFeatures:
    projector, parts = modality.projector, modality.projector.parts()
    return ReferenceFeatures(
        prefix=f"features.{modality.name}",
        size=projector.size,
        maps=len(parts.keys() & {"hidden", "out"}),
        activation=None if projector.kind == "none" or projector.kind == "linear" else projector.kind,
        norm=None if projector.norm is None else _norm(projector.norm),
        added_after=projector.added_after,
    )


def position_rules(model: Model) -> tuple[ReferenceRule, ...]:
    """The rules that place the tokens of each modality; none where positions are plain."""
    if not model.places_by_rule:
        return ()
    rules = (modality.positions for modality in model.modalities)
    return tuple(
        ReferenceRule()
        if rule is None
        else ReferenceRule(**{each.name: getattr(rule, each.name) for each in fields(rule)})
        for rule in rules
    )


def tower_config(model: Model, modality: str) -> ReferenceConfig:
    """The dense model made of one modality's parameters: the only modality there is, with id 0."""
    whole = reference_config(model)
    layers = (
        replace(
            layer,
            sublayers=tuple(replace(each, body=_of_tower(each.body, modality)) for each in layer.sublayers),
            prefixes={path: _only(modality, of_all) for path, of_all in layer.prefixes.items()},
            norms={path: _only(modality, of_all) for path, of_all in layer.norms.items()},
            modulations={role: _only(modality, of_all) for role, of_all in layer.modulations.items()},
        )
        for layer in whole.layers
    )
    return replace(
        whole,
        modalities=(modality,),
        position_rules=tuple(
            rule for name, rule in zip(whole.modalities, whole.position_rules, strict=False) if name == modality
        ),
        layers=tuple(layers),
        embedding=_only(modality, whole.embedding),
        position_embedding=_only(modality, whole.position_embedding),
        head=None if whole.head is None else _only(modality, whole.head),
        final_norm_prefixes=_only(modality, whole.final_norm_prefixes),
        final_norms=_only(modality, whole.final_norms),
        embedding_norm_prefixes=_only(modality, whole.embedding_norm_prefixes),
        embedding_norms=_only(modality, whole.embedding_norms),
        latents=_only(modality, whole.latents),
        final_modulations=_only(modality, whole.final_modulations),
        features=_only(modality, whole.features),
    )


def _layer(layer: Layer, index: int, modalities: tuple[str, ...]) -> ReferenceLayer:
    norms = (leaf for leaf in layer.leaves() if leaf.is_norm)
    return ReferenceLayer(
        sublayers=tuple(_sublayer(sublayer, modalities) for sublayer in layer.sublayers),
        prefixes={leaf.path: _prefixes(leaf, index) for leaf in layer.leaves()},
        norms={leaf.path: _norms(leaf) for leaf in norms},
        modulations={
            sublayer.role: _modulations(sublayer.modulation, index)
            for sublayer in layer.sublayers
            if sublayer.modulation is not None
        },
    )


def _sublayer(sublayer: Sublayer, modalities: tuple[str, ...]) -> ReferenceSublayer:
    return ReferenceSublayer(
        name=sublayer.role,
        placement=_placement(sublayer),
        body=_body(sublayer.body, modalities),
        reads=sublayer.reads,
        onto=sublayer.onto,
        scale=sublayer.scale,
    )


def _placement(sublayer: Sublayer) -> Placement:
    norms = sublayer.norms
    if sublayer.reads == "normed" and not norms:
        return "pre"
    if not norms:
        return "none"
    if len(norms) == 1:
        (place,) = norms
        return place
    assert tuple(norms) == ("pre", "sublayer_output"), f"{sublayer.role} has other norms than the reference knows"
    return "both"


def _body(body: Body, modalities: tuple[str, ...]) -> ReferenceAttention | ReferenceFeedForward:
    match body:
        case Attention():
            return ReferenceAttention(
                heads=body.heads,
                kv_heads=body.kv_heads,
                head_dim=body.head_dim,
                value_dim=body.value_size,
                shared_dim=None if body.low_rank is None else body.low_rank.ranks.rope_dim,
                mask=reference_mask(body.mask),
                rope=None if body.rope is None else reference_rope(body.rope, body.rotated_size, modalities),
                norm_after_rope=body.norm_place == "after_rope",
                scale=body.scale,
                softcap=body.softcap,
                clip=body.clip,
            )
        case FeedForward():
            kinds = dict(zip(modalities, body.kinds, strict=True))
            return ReferenceFeedForward(kinds={name: kind for name, kind in kinds.items() if kind is not None})
        case Mixture():
            kinds = dict(zip(modalities, body.kinds, strict=True))
            return ReferenceFeedForward(
                kinds={name: kind for name, kind in kinds.items() if kind is not None},
                moe={
                    modality: ReferenceMoe(
                        experts=moe.experts,
                        routing=moe.routing,
                        per_token=moe.per_token,
                        balance=moe.balance,
                        shared=moe.shared,
                        choice=_choice(moe.choice),
                    )
                    for modality, moe in body.by_modality(modalities).items()
                },
            )
        case _:
            assert_never(body)


def _of_tower(
    body: ReferenceAttention | ReferenceFeedForward, modality: str
) -> ReferenceAttention | ReferenceFeedForward:
    """The body of one modality alone."""
    match body:
        case ReferenceAttention():
            return body
        case ReferenceFeedForward():
            return replace(body, kinds=_only(modality, body.kinds), moe=_only(modality, body.moe))
        case _:
            assert_never(body)


def _choice(choice: Choice) -> ReferenceChoice:
    """How a token chooses in the reference's words, which are the same."""
    return ReferenceChoice(**{field.name: getattr(choice, field.name) for field in fields(choice)})


NAMED = ("kind", "sees", "detach", "reads")
"""Fields of masks that are not copied as they are."""


def reference_mask(mask: Mask) -> ReferenceMask:
    """A mask in the reference's words, which are the same."""
    alike = {field.name: getattr(mask, field.name) for field in fields(mask) if field.name not in NAMED}
    sees, detach, reads = map(dict, (mask.sees, mask.detach, mask.reads))
    return ReferenceMask(kind=mask.kind, sees=sees, detach=detach, reads=reads, **alike)


def reference_rope(rope: Rope, head_dim: int, modalities: tuple[str, ...]) -> ReferenceRope:
    """Rotary positions in the reference's words, which are nearly the same."""
    scaling = None
    if rope.scaling is not None:
        alike = {field.name: getattr(rope.scaling, field.name) for field in fields(rope.scaling)}
        scaling = ReferenceScaling(kind=kind_of(rope.scaling), **alike)
    whole = ReferenceRope(
        theta=rope.theta,
        pairing=rope.pairing,
        size=rope.angles(head_dim).size,
        scaling=scaling,
        thetas={m: theta for m, theta in zip(modalities, rope.thetas, strict=False) if isinstance(theta, float)},
    )
    axes = rope.axes
    return whole if axes is None else replace(whole, sections=axes.pairs, arrangement=axes.arrangement)


def _prefixes(leaf: Leaf, layer: int | None) -> dict[str, str]:
    return {m: parameter_prefix(leaf, block, layer) for block in leaf.blocks for m in block.modalities}


def _norms(leaf: Leaf) -> dict[str, ReferenceNorm]:
    norms: dict[str, ReferenceNorm] = {}
    for block in leaf.blocks:
        assert isinstance(block.operator, Norm), f"{leaf.path} is no norm"
        for modality in block.modalities:
            norms[modality] = _norm(block.operator)
    return norms


def _norm(norm: Norm) -> ReferenceNorm:
    return ReferenceNorm(kind=norm.kind, eps=norm.eps, offset=norm.offset, over_heads=norm.over_heads)


def _only(modality: str, mapping: Mapping[str, Value]) -> dict[str, Value]:
    return {modality: mapping[modality]} if modality in mapping else {}
