"""Spec to IR: names, selectors, defaults and shapes are settled here, and whatever does not fit is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from motc.ir.attributes import LayerAttributes, OuterAttributes
from motc.ir.condition import SharedMaps
from motc.ir.execution import Strategy
from motc.ir.inventory import LAYER_GROUPS, OUTER_GROUPS, Attributes, Group
from motc.ir.leaf import Leaf
from motc.ir.model import FeatureModality, LatentModality, Modality, Model, TokenLoss
from motc.ir.partition import Partition
from motc.lower.attributes import layer_attributes, outer_attributes
from motc.lower.by_layer import specs_by_layer
from motc.lower.conditions import check_conditions
from motc.lower.denoising import lower_noising, lower_times, lower_weighting
from motc.lower.experts import check_experts
from motc.lower.layers import LayerSpec, check_bodies, check_kinds, lower_layers
from motc.lower.leaf import LeafBuilder
from motc.lower.losses import lower_losses
from motc.lower.mask import lower_masks
from motc.lower.norms import check_norms
from motc.lower.positions import check_positions, lower_positions
from motc.lower.rope import check_axes
from motc.lower.shared_maps import shared_maps
from motc.lower.strategy import check_strategy
from motc.lower.towers import check_heads, lower_towers
from motc.lower.untie import Untied, resolve_untie
from motc.lower.vocabularies import check_head, check_vocabularies
from motc.schema import Checked, Spec
from motc.schema.modalities import ModalitySpec
from motc.source import Diagnostic, SpecError


def lower(checked: Checked, *, dense: bool = False, strategy: Strategy = "sorted") -> Model:
    """The model a spec describes; with `dense`, its dense twin: no towers, and nothing untied but embedding and head.

    Raises SpecError with every diagnostic found.
    """
    spec = checked.spec
    errors: list[Diagnostic] = []
    towers, tower_names, tower_of = lower_towers(checked, errors)
    specs = specs_by_layer(checked, errors)
    distinct = {id(each): each for each in specs}
    masks = lower_masks(distinct.values(), errors, dense=dense)
    for each in distinct.values():
        check_heads(each, errors)
        check_experts(each, errors)
        check_norms(each, errors)
    check_conditions(checked, distinct.values(), errors)
    axes = check_axes(distinct.values(), errors)
    check_positions(checked, axes, errors)
    losses = lower_losses(checked, tuple(dict.fromkeys(mask for mask in masks if mask)), errors)
    check_vocabularies(checked, errors)
    check_head(checked, errors)
    if errors:
        raise SpecError(*sorted(dict.fromkeys(errors), key=_position))
    everywhere = _attributes(spec, tower_of, dense=dense)
    declared = {name: None if dense else spec.towers.get(tower) for name, tower in tower_of.items()}
    outside = {name: outer_attributes(spec, name, declared[name], everywhere[name]) for name in towers.universe}
    layer_specs: dict[int, LayerSpec] = {}  # of what is told from here on, the first statement that says it is told
    for each, mask in zip(distinct.values(), masks, strict=True):
        if id(each.spec) not in layer_specs:
            attributes = _attributes(each.spec, tower_of, dense=dense)
            layer_specs[id(each.spec)] = LayerSpec(checked=each, attributes=attributes, mask=mask)
    conditioning = {a.adaptive.by for each in layer_specs.values() for a in each.attributes.values() if a.adaptive}
    conditioning |= {a.adaptive.by for a in outside.values() if a.adaptive}
    outside = {name: a if name in conditioning else replace(a, condition=None) for name, a in outside.items()}
    asked = {a for each in layer_specs.values() for a in each.attributes.values()}
    if dense:  # the twin answers for the whole spec, so that selectors still match
        asked |= {layer_attributes(each.spec, t) for each in distinct.values() for t in each.spec.towers.values()}
    present = _paths(LAYER_GROUPS, asked) | _paths(OUTER_GROUPS, outside.values())
    check_bodies(tuple(layer_specs.values()), errors)
    untied = resolve_untie(checked, towers, present, errors, dense=dense)
    by_layer = tuple(layer_specs[id(each.spec)] for each in specs)
    check_kinds(by_layer, untied, checked, errors)
    if errors:
        raise SpecError(*sorted(errors, key=_position))

    builder = LeafBuilder(checked, towers, {} if dense else tower_names)
    segments = lower_layers(by_layer, untied, builder)
    shared = shared_maps(segments, checked, builder.errors)
    outside = {name: _with_shared(a, shared.get(name, ())) for name, a in outside.items()}
    outer = _outer_leaves(untied, outside, builder)
    speaks = any(a.vocab is not None for a in outside.values())
    if len({a.width for a in outside.values()}) > 1 and spec.vocab is None and speaks:
        message = "towers of different widths need one shared vocabulary: a head reads the states of other modalities"
        span = checked.span("modalities")
        builder.errors.append(Diagnostic(code="MOT048", message=message, span=span, help="set the model's `vocab`"))
    if builder.errors:
        raise SpecError(*sorted(builder.errors, key=_position))

    rules = lower_positions(checked)
    model = Model(
        name=spec.model,
        modalities=tuple(
            replace(_modality(name, modality, outside[name], losses), positions=rules[name])
            for name, modality in spec.modalities.items()
        ),
        towers=Partition.one(towers.universe) if dense else towers,
        vocab=spec.vocab,
        tied_embedding=spec.embedding.tied,
        embedding=outer.get("embedding"),
        segments=segments,
        final_norm=outer["final_norm"],
        final_modulation=outer.get("final_modulation"),
        head=outer.get("head"),
        first_position=spec.positions.first,
        position_table=outer.get("position_embedding"),
        embedding_norm=outer.get("embedding_norm"),
        order=towers.universe,
        logit_scale=float(spec.head.scale),
        logit_softcap=None if spec.head.softcap is None else float(spec.head.softcap),
        strategy=strategy,
        span=checked.tree.span,
    )
    check_strategy(model)
    return model


def _attributes(spec: Spec, tower_of: dict[str, str], *, dense: bool) -> dict[str, LayerAttributes]:
    """What a layer is to each modality; those of one tower have one object, and those of towers that say nothing."""
    towers = {tower: None if dense else spec.towers.get(tower) for tower in tower_of.values()}
    asked = {id(tower): tower for tower in towers.values()}
    attributes = {key: layer_attributes(spec, tower) for key, tower in asked.items()}
    return {name: attributes[id(towers[tower])] for name, tower in tower_of.items()}


def _modality(name: str, spec: ModalitySpec, a: OuterAttributes, losses: dict[str, TokenLoss]) -> Modality:
    if a.features is not None:
        return FeatureModality(name=name, width=a.width, vocab=None, projector=a.features)
    if spec.latent is None or a.latent is None:
        return Modality(name=name, width=a.width, vocab=spec.vocab, loss=losses[name])
    return LatentModality(
        name=name,
        width=a.width,
        vocab=None,
        ends=a.latent,
        objective=spec.latent.objective.kind,
        weight=float(spec.latent.weight),
        noising=lower_noising(spec.latent.objective),
        times=lower_times(spec.latent.times),
        weighting=lower_weighting(spec.latent),
        condition=a.condition,
    )


def _with_shared(a: OuterAttributes, shared: tuple[SharedMaps, ...]) -> OuterAttributes:
    """What is outside the layers, with the maps that a modality's condition has for these."""
    return replace(a, condition=replace(a.condition, shared=shared)) if shared and a.condition else a


def _paths(groups: tuple[Group[Attributes], ...], attributes: Iterable[Attributes]) -> frozenset[str]:
    """The paths where some of these attributes have parameters."""
    each = list(attributes)
    return frozenset(group.path for group in groups if any(group.operator(a) is not None for a in each))


def _outer_leaves(
    untied: Untied, attributes: dict[str, OuterAttributes], builder: LeafBuilder
) -> dict[str, Leaf | None]:
    """The groups outside the layers, by path. Each modality that has a vocabulary of its own has its own rows."""
    leaves: dict[str, Leaf | None] = {}
    for group in OUTER_GROUPS:
        if group.path not in untied.outer:
            continue
        concerned = [name for name, a in attributes.items() if group.operator(a) is not None or _may_lack(group, a)]
        operators = {name: group.operator(attributes[name]) for name in concerned}
        own = group.is_of_vocabulary and any(a.vocab and a.vocab.own for a in attributes.values())
        partition = (Partition.each(attributes) if own else untied.outer[group.path]).only(concerned)
        # a vocabulary of its own is the modality's, whatever its tower is called
        leaves[group.path] = builder.build(group.path, partition, operators, name_by_tower=not own)
    return leaves


def _may_lack(group: Group[OuterAttributes], a: OuterAttributes) -> bool:
    """Whether tokens without a group are kept apart from those that have it: a tower may lack a norm outside layers."""
    if group.path == "final_modulation":
        return a.norm_final and a.features is None
    return group.path == "embedding_norm" or (group.path == "final_norm" and a.features is None)


def _position(diagnostic: Diagnostic) -> tuple[str, int]:
    return (diagnostic.span.source.name, diagnostic.span.start) if diagnostic.span else ("", 0)
