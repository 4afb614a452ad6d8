"""IR to module plan."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from motc.ir.identity import semantic_hash
from motc.ir.model import Layer, Leaf, Linear, Model, Segment
from motc.passes.schedule_steps import norms_alike
from motc.plan.module_plan import Form, LayerPlan, LeafPlan, ModulePlan
from motc.plan.templates import layout_function, templates

# What the generated file imports or defines before the model's own classes.
TAKEN = frozenset(
    """Any ByTower F LayerNorm LossOutput Mapping ModalityLayout ModelOutput NamedTuple NormByTower Permute
    RMSNorm Rows TargetOrder Targets Tensor""".split()
)

IN_STREAM = ("attention.norm", "attention.out", "attention.add", "ffn.norm", "ffn.down", "ffn.add")
IN_FFN = ("ffn.gate", "ffn.up", "ffn.activation")


def plan(model: Model) -> ModulePlan:
    """Decide everything about the generated file, for an IR that has gone through all passes."""
    names = [modality.name for modality in model.modalities]
    class_name = _class_name(model.name)
    kinds: list[Layer] = []
    for segment in model.segments:
        if segment.layer not in kinds:
            kinds.append(segment.layer)
    in_pieces = len({modality.width for modality in model.modalities}) > 1
    layer_plans = tuple(_layer_plan(model, layer, kinds, class_name, in_pieces) for layer in kinds)
    ends = {leaf.path: leaf_plan(leaf, model, in_pieces) for leaf in model.ends()}
    sorts = model.strategy in ("sorted", "grouped") and (
        any(step.order == "sorted" for layer in kinds for step in layer.steps)
        or any(end.form == "by_tower" for end in ends.values())
    )
    return ModulePlan(
        model=model,
        class_name=class_name,
        semantic_hash=semantic_hash(model),
        order=tuple(names.index(name) for name in model.order),
        layer_plans=layer_plans,
        runs=tuple((kinds.index(segment.layer), segment.count) for segment in model.segments),
        embedding=ends["embedding"],
        final_norm=ends.get("final_norm"),
        head=ends.get("head"),
        stream_in_pieces=in_pieces,
        sorts=sorts,
        layout=layout_function(model, sorts),
        templates=templates(
            model, kinds, [*(p for kind in layer_plans for p in kind.leaves.values()), *ends.values()], sorts
        ),
    )


def _class_name(name: str) -> str:
    """CamelCase, with `Model` after it where the generated file or Python already uses the name."""
    camel = "".join(word[:1].upper() + word[1:] for word in name.split("_"))
    return f"{camel}Model" if camel in TAKEN or hasattr(builtins, camel) else camel


def _layer_plan(model: Model, layer: Layer, kinds: list[Layer], class_name: str, in_pieces: bool) -> LayerPlan:
    attentions = list(dict.fromkeys(kind.attention for kind in kinds))
    ffns = list(dict.fromkeys(kind.ffn for kind in kinds))
    where = ", ".join(_range(segment) for segment in model.segments if segment.layer == layer)
    pieces = _pieces(layer, in_pieces)
    return LayerPlan(
        attention_class=f"{class_name}Attention{_suffix(attentions, layer.attention)}",
        ffn_class=f"{class_name}FeedForward{_suffix(ffns, layer.ffn)}",
        layer_class=f"{class_name}Layer{_suffix(kinds, layer)}",
        where=where,
        layer=layer,
        leaves={
            leaf.path: leaf_plan(leaf, model, leaf.path in pieces or bool(pieces & _read_by(layer, leaf)))
            for leaf in layer.leaves()
        },
        pieces=pieces,
    )


def _pieces(layer: Layer, in_pieces: bool) -> frozenset[str]:
    """The operations that write pieces: where widths differ, or hidden sizes, or kinds of feed-forward."""
    hidden = {block.operator.out_features for block in layer.ffn.up.blocks if isinstance(block.operator, Linear)}
    found = set(IN_FFN) if len(hidden) > 1 or len(set(layer.ffn.kinds)) > 1 else set()
    return frozenset(found | (set(IN_STREAM) | {"x"} if in_pieces else set()))


def _read_by(layer: Layer, leaf: Leaf) -> set[str]:
    """The operations that write what a leaf reads; `x` for what comes into the layer."""
    return {value.removesuffix(" sorted") for step in layer.steps if step.op == leaf.path for value in step.reads}


def _suffix(kinds: Sequence[object], kind: object) -> str:
    """A letter for each kind of a class, or nothing if there is only one."""
    if len(kinds) == 1:
        return ""
    return chr(ord("A") + kinds.index(kind)) if len(kinds) <= 26 else str(kinds.index(kind))


def _range(segment: Segment) -> str:
    return str(segment.first) if segment.count == 1 else f"{segment.first}..{segment.last}"


def leaf_plan(leaf: Leaf, model: Model, in_pieces: bool) -> LeafPlan:
    """How a leaf appears; `in_pieces` if it reads or writes a piece for each modality."""
    runs = leaf.runs(model.order)
    if in_pieces:
        runs = tuple((block, 1) for block, count in runs for _ in range(count))
    form: Form = "by_tower"
    if len(leaf.blocks) == 1 and not leaf.blocks[0].name:
        form = "shared" if in_pieces else "single"
    elif not in_pieces and norms_alike(leaf, model):
        form = "norm_by_tower"
    return LeafPlan(
        attribute=leaf.path.rpartition(".")[2],
        leaf=leaf,
        form=form,
        route=tuple(None if block is None else block.name for block, _ in runs),
        counts=tuple(count for _, count in runs),
    )
