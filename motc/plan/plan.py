"""IR to module plan."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from motc.ir.identity import semantic_hash
from motc.ir.model import Layer, Leaf, Model, Norm, Segment
from motc.plan.module_plan import LayerPlan, LeafPlan, ModulePlan

# What the generated file imports or defines before the model's own classes.
TAKEN = frozenset(
    "Any ByTower F LayerNorm LossOutput Mapping ModalityLayout ModelOutput NamedTuple Permute RMSNorm Tensor".split()
)


def plan(model: Model) -> ModulePlan:
    """Decide everything about the generated file."""
    names = [modality.name for modality in model.modalities]
    class_name = _class_name(model.name)
    kinds: list[Layer] = []
    for segment in model.segments:
        if segment.layer not in kinds:
            kinds.append(segment.layer)
    ordered = [name for block in model.stream.blocks for name in block]
    layer_plans = tuple(_layer_plan(model, layer, kinds, class_name) for layer in kinds)
    pieces = tuple((name,) for name in ordered)
    return ModulePlan(
        model=model,
        class_name=class_name,
        semantic_hash=semantic_hash(model),
        parts=tuple(tuple(names.index(name) for name in block) for block in model.stream.blocks),
        layer_plans=layer_plans,
        runs=tuple((kinds.index(segment.layer), segment.count) for segment in model.segments),
        embedding=_end_plan(model.embedding, model, pieces),
        final_norm=_leaf_plan(model.final_norm, model.stream.blocks) if model.final_norm else None,
        head=_end_plan(model.head, model, pieces) if model.head else None,
        templates=_templates(model, kinds),
    )


def _class_name(name: str) -> str:
    """CamelCase, with `Model` after it where the generated file or Python already uses the name."""
    camel = "".join(word[:1].upper() + word[1:] for word in name.split("_"))
    return f"{camel}Model" if camel in TAKEN or hasattr(builtins, camel) else camel


def _layer_plan(model: Model, layer: Layer, kinds: list[Layer], class_name: str) -> LayerPlan:
    attentions = list(dict.fromkeys(kind.attention for kind in kinds))
    ffns = list(dict.fromkeys(kind.ffn for kind in kinds))
    where = ", ".join(_range(segment) for segment in model.segments if segment.layer == layer)
    return LayerPlan(
        attention_class=f"{class_name}Attention{_suffix(attentions, layer.attention)}",
        ffn_class=f"{class_name}FeedForward{_suffix(ffns, layer.ffn)}",
        layer_class=f"{class_name}Layer{_suffix(kinds, layer)}",
        where=where,
        layer=layer,
        leaves={leaf.path: _leaf_plan(leaf, model.stream.blocks) for leaf in layer.leaves()},
    )


def _suffix(kinds: Sequence[object], kind: object) -> str:
    """A letter for each kind of a class, or nothing if there is only one."""
    if len(kinds) == 1:
        return ""
    return chr(ord("A") + kinds.index(kind)) if len(kinds) <= 26 else str(kinds.index(kind))


def _range(segment: Segment) -> str:
    return str(segment.first) if segment.count == 1 else f"{segment.first}..{segment.last}"


def _leaf_plan(leaf: Leaf, pieces: tuple[tuple[str, ...], ...]) -> LeafPlan:
    blocks = [leaf.block_of(piece[0]) for piece in pieces]
    route = tuple(None if block is None else block.name for block in blocks)
    attribute = leaf.path.rpartition(".")[2]
    if len(leaf.blocks) == 1 and not leaf.blocks[0].name:
        return LeafPlan(attribute=attribute, leaf=leaf, form="single" if len(pieces) == 1 else "shared", route=route)
    return LeafPlan(attribute=attribute, leaf=leaf, form="by_tower", route=route)


def _end_plan(leaf: Leaf, model: Model, pieces: tuple[tuple[str, ...], ...]) -> LeafPlan:
    """Ends that are one table see the stream's parts; others see it modality by modality."""
    if len(leaf.blocks) == 1 and not leaf.blocks[0].name:
        return _leaf_plan(leaf, model.stream.blocks)
    return _leaf_plan(leaf, pieces)


def _templates(model: Model, kinds: list[Layer]) -> tuple[str, ...]:
    norms = {
        block.operator.kind
        for leaf in [*(leaf for layer in kinds for leaf in layer.leaves()), *model.ends()]
        for block in leaf.blocks
        if isinstance(block.operator, Norm)
    }
    chosen = ["modality_layout", "outputs"]
    if "rms" in norms:
        chosen.append("norms.RMSNorm")
    if "layer" in norms:
        chosen.append("norms.LayerNorm")
    rope = kinds[0].attention.rope
    if rope:
        chosen.append("rope.rope_angles")
        chosen.append("rope.rotate_half" if rope.pairing == "half" else "rope.rotate_interleaved")
    return (*chosen, "by_tower", "initialise")
