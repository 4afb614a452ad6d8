"""IR to module plan."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from motc.ir.identity import semantic_hash
from motc.ir.layer import Layer
from motc.ir.leaf import Leaf
from motc.ir.model import Model, Segment
from motc.ir.steps import Apply, Attend
from motc.passes.schedule_steps import needs_order, norms_alike
from motc.plan.decoding import can_generate, decode_towers
from motc.plan.execution import execution
from motc.plan.library import taken
from motc.plan.mixture import mixture_counts
from motc.plan.module_plan import Form, LayerPlan, LeafPlan, ModulePlan

Kind = TypeVar("Kind")

IN_STREAM = ("attention.norm", "attention.out", "attention.add", "ffn.norm", "ffn.down", "ffn.mixture", "ffn.add")
IN_FFN = ("ffn.gate", "ffn.up", "ffn.activation")


def plan(model: Model) -> ModulePlan:
    """Decide everything about the generated file, for an IR that has gone through all passes."""
    names = [modality.name for modality in model.modalities]
    class_name = name_of_class(model.name)
    kinds = [layer for layer, _ in model.kinds()]
    in_pieces = len({modality.width for modality in model.modalities}) > 1
    suffixes = _Suffixes(kinds)
    where = _places(model)
    layer_plans = tuple(_layer_plan(model, layer, suffixes, where[id(layer)], class_name, in_pieces) for layer in kinds)
    index = {id(layer): place for place, layer in enumerate(kinds)}
    each = (1,) * len(names)
    ends = {
        leaf.path: leaf_plan(_everywhere(leaf, model), model, each if in_pieces else None)
        for leaf in model.outer_leaves()
        if leaf.path != "latents"
    }
    sorts = model.strategy in ("sorted", "grouped") and (
        any(step.order == "sorted" for layer in kinds for step in layer.steps)
        or any(end.form == "by_tower" for end in ends.values())
        or (bool(model.latents()) and model.vocab is not None)
    )
    return ModulePlan(
        model=model,
        class_name=class_name,
        semantic_hash=semantic_hash(model),
        order=tuple(names.index(name) for name in model.order),
        layer_plans=layer_plans,
        runs=tuple((index[id(segment.layer)], segment.count) for segment in model.segments),
        embedding=ends["embedding"],
        final_norm=ends.get("final_norm"),
        head=ends.get("head"),
        head_pieces=_head_pieces(model, in_pieces),
        stream_in_pieces=in_pieces,
        execution=execution(model.strategy, sorts=sorts, has_towers=_has_towers(layer_plans, ends)),
        generates=can_generate(model),
        towers=decode_towers(model),
    )


def _everywhere(leaf: Leaf, model: Model) -> Leaf:
    """The leaf, latents going along with its first block where they have none: what that makes of them is not used."""
    if leaf.path not in ("embedding", "head") or model.latents() is None:
        return leaf
    first, *rest = leaf.blocks
    latents = tuple(modality.name for modality in model.latent_modalities())
    return replace(leaf, blocks=(replace(first, modalities=(*first.modalities, *latents)), *rest))


def _head_pieces(model: Model, in_pieces: bool) -> tuple[tuple[str | None, int], ...]:
    """How the stream is cut for a shared vocabulary's head, if latents are to be left out of it."""
    if model.latents() is None or model.vocab is None or model.strategy == "grouped":
        return ()
    leaf = model.head or model.embedding
    if in_pieces:
        blocks = [leaf.block_of(name) for name in model.order]
        return tuple((None if block is None else block.name, 1) for block in blocks)
    return tuple((None if block is None else block.name, count) for block, count in leaf.runs(model.order))


def name_of_class(name: str) -> str:
    """CamelCase, with `Model` after it where Python, an import or a building block already uses the name."""
    camel = "".join(word[:1].upper() + word[1:] for word in name.split("_"))
    return f"{camel}Model" if camel in taken() or hasattr(builtins, camel) else camel


def _has_towers(layers: Iterable[LayerPlan], ends: Mapping[str, LeafPlan]) -> bool:
    """Whether any tokens go through parameters of their own."""
    leaves = [*(leaf for layer in layers for leaf in layer.leaves.values()), *ends.values()]
    return any(leaf.form in ("by_tower", "held") for leaf in leaves)


def _layer_plan(
    model: Model, layer: Layer, suffixes: _Suffixes, where: str, class_name: str, in_pieces: bool
) -> LayerPlan:
    pieces = _pieces(layer, model, in_pieces)
    each = (1,) * len(model.order)
    within = _ffn_counts(layer, model, in_pieces)
    leaves = {
        leaf.path: _held(leaf, model)
        if layer.ffn.moe and leaf in layer.ffn.inner()
        else leaf_plan(leaf, model, _counts(leaf, layer, pieces, each, within))
        for leaf in layer.leaves()
    }
    return LayerPlan(
        attention_class=f"{class_name}Attention{suffixes.attention[layer.attention]}",
        ffn_class=f"{class_name}FeedForward{suffixes.ffn[layer.ffn]}",
        layer_class=f"{class_name}Layer{suffixes.layer[layer]}",
        where=where,
        layer=layer,
        leaves=leaves,
        resorted=_attended_and_sorted(layer) if leaves["attention.out"].form == "by_tower" else frozenset(),
        pieces=pieces,
        ffn_counts=within,
    )


def _held(leaf: Leaf, model: Model) -> LeafPlan:
    """A leaf of a feed-forward with experts: each copy is applied by itself, to what was sent to it."""
    found = leaf_plan(leaf, model, None)
    return found if found.form == "single" else replace(found, form="held")


def _counts(
    leaf: Leaf, layer: Layer, pieces: frozenset[str], each: tuple[int, ...], within: tuple[int, ...]
) -> tuple[int, ...] | None:
    """The pieces a leaf is applied to, if it reads or writes any."""
    touched = pieces & {leaf.path, *_read_by(layer, leaf)}
    if not touched:
        return None
    return within if touched & set(IN_FFN) else each


def _pieces(layer: Layer, model: Model, in_pieces: bool) -> frozenset[str]:
    """The operations that write pieces: all on the stream where widths differ, and what is within a feed-forward of
    several copies. There each piece goes its own way: joined, it would need memory of its own for the activation.
    """
    found = set(IN_STREAM) | {"x"} if in_pieces else set()
    if not layer.ffn.moe and model.strategy != "grouped" and any(needs_order(leaf, model) for leaf in _inner(layer)):
        found |= set(IN_FFN)
    return frozenset(found)


def _inner(layer: Layer) -> list[Leaf]:
    return [leaf for leaf in (layer.ffn.gate, layer.ffn.up) if leaf is not None]


def _ffn_counts(layer: Layer, model: Model, in_pieces: bool) -> tuple[int, ...]:
    """How many modalities each piece within a feed-forward holds: as many as all its groups serve together."""
    if layer.ffn.moe:
        return mixture_counts(layer, model)
    counts = {tuple(count for _, count in leaf.runs(model.order)) for leaf in layer.ffn.inner()}
    return (1,) * len(model.order) if in_pieces or len(counts) > 1 else counts.pop()


def _attended_and_sorted(layer: Layer) -> frozenset[str]:
    """What attention makes, if it is sorted."""
    attended = {step.writes for step in layer.steps if isinstance(step.operation, Attend)}
    return frozenset(step.writes.name for step in layer.steps if step.permutes and step.reads[0] in attended)


def _read_by(layer: Layer, leaf: Leaf) -> set[str]:
    """The operations that write what a leaf reads; `x` for what comes into the layer."""
    return {value.name for step in layer.steps if step.operation == Apply(leaf) for value in step.reads}


class _Suffixes:
    """What tells the classes of different kinds apart: a letter or number each, nothing where there is one kind."""

    def __init__(self, kinds: Sequence[Layer]) -> None:
        self.attention = _suffixes(kind.attention for kind in kinds)
        self.ffn = _suffixes(kind.ffn for kind in kinds)
        self.layer = _suffixes(kinds)


def _suffixes(kinds: Iterable[Kind]) -> dict[Kind, str]:
    different = list(dict.fromkeys(kinds))
    if len(different) == 1:
        return {different[0]: ""}
    few = len(different) <= 26
    return {kind: chr(ord("A") + index) if few else str(index) for index, kind in enumerate(different)}


def _places(model: Model) -> dict[int, str]:
    """In which layers each kind stands, by its identity: `0..3, 5`."""
    found: dict[int, list[str]] = {}
    for segment in model.segments:
        found.setdefault(id(segment.layer), []).append(_range(segment))
    return {key: ", ".join(ranges) for key, ranges in found.items()}


def _range(segment: Segment) -> str:
    return str(segment.first) if segment.count == 1 else f"{segment.first}..{segment.last}"


def leaf_plan(leaf: Leaf, model: Model, pieces: tuple[int, ...] | None) -> LeafPlan:
    """How a leaf appears; `pieces` says how many modalities each piece holds that it reads or writes, if it does."""
    runs = leaf.runs(model.order)
    if pieces is not None:
        starts = [sum(pieces[:index]) for index in range(len(pieces))]
        runs = tuple((leaf.block_of(model.order[start]), count) for start, count in zip(starts, pieces, strict=True))
    form: Form = "by_tower"
    if len(leaf.blocks) == 1 and not leaf.blocks[0].name:
        form = "single" if pieces is None else "shared"
    elif pieces is None and norms_alike(leaf, model):
        form = "norm_by_tower"
    return LeafPlan(
        attribute=leaf.path.partition(".")[2] or leaf.path,
        leaf=leaf,
        form=form,
        route=tuple(None if block is None else block.name for block, _ in runs),
        counts=tuple(count for _, count in runs),
    )
