"""IR to module plan."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from motc.ir.attention import Attention
from motc.ir.feed_forward import FeedForward, Mixture
from motc.ir.gradients import without_gradient
from motc.ir.identity import semantic_hash
from motc.ir.inventory import OUTER_PATHS, VOCABULARY_PATHS
from motc.ir.layer import Body, Layer, Parallel, Sublayer
from motc.ir.leaf import Leaf
from motc.ir.model import Modality, Model, Segment
from motc.ir.operators import Linear, Modulation, ReadMap, Sinks
from motc.ir.steps import (
    ENTERING,
    Activate,
    Add,
    Apply,
    Attend,
    Gate,
    GateBranch,
    LeaveOut,
    Modulate,
    Step,
    Steps,
    Value,
)
from motc.passes.needs import chosen_by_place, needs_order
from motc.passes.schedule_outer import skips_continuous
from motc.passes.schedule_steps import STREAM
from motc.plan.decoding import alike, can_generate, last_block
from motc.plan.execution import planned_execution
from motc.plan.library import taken
from motc.plan.mixture import counts_within
from motc.plan.module_plan import Form, LayerPlan, LeafPlan, ModulePlan, SublayerPlan
from motc.plan.pieces import counts_in_layers, stream_is_in_pieces

Kind = TypeVar("Kind")

CLASSES = {"ffn": "FeedForward"}
"""What the class of a sublayer is called after its model, where it is not as its role."""


def plan(model: Model) -> ModulePlan:
    """Decide everything about the generated file, for an IR that has gone through all passes."""
    names = [modality.name for modality in model.modalities]
    class_name = name_of_class(model.name)
    kinds = [layer for layer, _ in model.kinds]
    in_pieces = stream_is_in_pieces(model)
    in_layers = counts_in_layers(model) if in_pieces else ()
    untrained = without_gradient(model)
    classes, where = _Classes(class_name, kinds, untrained), _places(model)
    layer_plans = tuple(
        _layer_plan(model, layer, classes, where[id(layer)], in_layers, untrained[id(layer)]) for layer in kinds
    )
    index = {id(layer): place for place, layer in enumerate(kinds)}
    each = (1,) * len(names)
    outer = {
        leaf.path: leaf_plan(
            _everywhere(leaf, model, in_pieces), model, each if in_pieces and not _is_modulation(leaf) else None
        )
        for leaf in model.outer_leaves()
        if leaf.path in OUTER_PATHS
    }
    return ModulePlan(
        model=model,
        class_name=class_name,
        semantic_hash=semantic_hash(model),
        order=tuple(names.index(name) for name in model.order),
        layer_plans=layer_plans,
        runs=tuple((index[id(segment.layer)], segment.count) for segment in model.segments),
        embedding=outer.get("embedding"),
        position_table=outer.get("position_embedding"),
        embedding_norm=outer.get("embedding_norm"),
        final_norm=outer.get("final_norm"),
        final_modulation=outer.get("final_modulation"),
        head=outer.get("head"),
        head_pieces=_head_pieces(model, in_pieces),
        stream_in_pieces=in_pieces,
        counts_in_layers=in_layers,
        execution=planned_execution(model, layer_plans, outer.values()),
        generates=can_generate(model),
        last_block=last_block(model),
        alike=alike(model),
        untrained_features=tuple(name for name in names if name in untrained[id(kinds[0])]),
    )


def _everywhere(leaf: Leaf, model: Model, in_pieces: bool) -> Leaf:
    """The leaf, modalities that have none going along with its first block where what that makes of them is not used.

    Not so a norm of pieces, which differ in width, nor tokens without a norm that are read as they are.
    """
    if leaf.path == "embedding_norm" or _is_modulation(leaf) or (in_pieces and leaf.path not in VOCABULARY_PATHS):
        return leaf
    return _along(leaf, model.modalities if leaf.path in VOCABULARY_PATHS else model.feature_modalities())


def _is_modulation(leaf: Leaf) -> bool:
    """Whether a leaf is applied to conditions, and not to tokens."""
    return isinstance(leaf.blocks[0].operator, Modulation)


def _along(leaf: Leaf, unread: Iterable[Modality]) -> Leaf:
    """The leaf, modalities that have none, and of which what it makes is not used, going along with its first block."""
    first, *rest = leaf.blocks
    lacking = tuple(modality.name for modality in unread if leaf.block_of(modality.name) is None)
    return replace(leaf, blocks=(replace(first, modalities=(*first.modalities, *lacking)), *rest))


def _head_pieces(model: Model, in_pieces: bool) -> tuple[tuple[str | None, int], ...]:
    """How the stream is cut for a shared vocabulary's head, if latents and features are to be left out of it."""
    if not skips_continuous(model):
        return ()
    leaf = model.read_leaf
    if in_pieces:
        blocks = [leaf.block_of(name) for name in model.order]
        return tuple((None if block is None else block.name, 1) for block in blocks)
    return tuple((None if block is None else block.name, count) for block, count in leaf.runs(model.order))


def name_of_class(name: str) -> str:
    """CamelCase, with `Model` after it where Python, an import or a building block already uses the name."""
    title = camel(name)
    return f"{title}Model" if title in taken() or hasattr(builtins, title) else title


def camel(name: str) -> str:
    """`emoji_mot` as `EmojiMot`."""
    return "".join(word[:1].upper() + word[1:] for word in name.split("_"))


def _layer_plan(
    model: Model, layer: Layer, classes: _Classes, where: str, in_layers: tuple[int, ...], untrained: frozenset[str]
) -> LayerPlan:
    """The plan of a kind of layer; of what modalities that are `untrained` have there, no gradient goes back.

    `in_layers` has how many modalities each piece of the stream holds; nothing where that is one tensor.
    """
    streams = _streams(model, layer)
    taken = [_taken(layer.steps_of(each), streams[each.role], model) for each in layer.sublayers]
    return LayerPlan(
        layer_class=classes.of_layers[layer],
        where=where,
        sublayers=tuple(
            _sublayer_plan(
                model,
                layer,
                sublayer,
                classes.of_sublayers[_kind_of(layer, sublayer, untrained)],
                in_layers,
                streams[sublayer.role],
                taken[place:],
                untrained,
            )
            for place, sublayer in enumerate(layer.sublayers)
        ),
    )


def _streams(model: Model, layer: Layer) -> dict[str, Value]:
    """The stream as it comes to each sublayer, by its role."""
    written = [layer.steps_of(sublayer)[-1].writes for sublayer in layer.sublayers]
    coming = (STREAM.ordered(model.residual), *written[:-1])
    return dict(zip([sublayer.role for sublayer in layer.sublayers], coming, strict=True))


def _taken(steps: Steps, stream: Value, model: Model) -> dict[Value, str]:
    """What a sublayer's steps read beside the stream that they do not write: of the layer's entry, or of its norm."""
    known = {stream, *(step.writes for step in steps)}
    read = dict.fromkeys(value for step in steps for value in step.reads if value not in known)
    values = [value for value in read if value.name == STREAM.name or value.name not in ENTERING]
    names = {value: "entry" if value.name == STREAM.name else "h" for value in values}
    return {value: name if value.order == model.residual else f"{name}_{value.order}" for value, name in names.items()}


def _sublayer_plan(
    model: Model,
    layer: Layer,
    sublayer: Sublayer,
    class_name: str,
    in_layers: tuple[int, ...],
    stream: Value,
    taken: list[dict[Value, str]],
    untrained: frozenset[str],
) -> SublayerPlan:
    """The plan of a sublayer; `taken` is what it takes, and each of those after it."""
    body, steps = sublayer.body, layer.steps_of(sublayer)
    written = {step.writes for step in steps}
    in_stream = in_layers or (1,) * len(model.order)
    inner = _inner_pieces(body, steps, model)
    pieces = inner | (_in_stream(sublayer, steps) if in_layers else frozenset())
    counts = in_stream
    if isinstance(body, FeedForward | Mixture) and not in_layers:
        counts = counts_within(body, model)

    def leaf_of(leaf: Leaf) -> LeafPlan:
        if isinstance(body, Mixture) and leaf in body.leaves():
            return _held(leaf, model)
        if isinstance(body, Attention) and isinstance(leaf.blocks[0].operator, Sinks):
            leaf = _along(leaf, (modality for modality in model.modalities if body.q.block_of(modality.name) is None))
        touched = pieces & {leaf.path, *_read_by(steps, leaf)}
        pieces_of_leaf = counts if touched & inner else in_stream if touched else None
        planned = replace(leaf_plan(_of_tokens(leaf), model, pieces_of_leaf), leaf=leaf)
        if planned.form == "by_tower" and not model.execution.groups_copies:
            copies = (block.name for block in leaf.blocks if untrained.issuperset(block.modalities))
            planned = replace(planned, untrained=tuple(name for name in copies if name in planned.route))
        within = isinstance(body, Attention) and leaf in body.leaves() and not leaf.is_norm
        if isinstance(body, Attention) and within and planned.form != "by_place" and None in planned.route:
            is_open = leaf == body.gate and any(
                leaf.block_of(name) is None and body.q.block_of(name) is not None for name in model.names
            )
            return replace(planned, blank=_blank(planned, leaf == body.out, model), open=is_open)
        return replace(planned, adds_nothing=leaf == body.out and None in planned.route)

    def made_of_conditions(leaf: Leaf | None) -> LeafPlan | None:
        return None if leaf is None else leaf_plan(leaf, model, None)

    return SublayerPlan(
        sublayer=sublayer,
        class_name=class_name,
        steps=steps,
        leaves=(leaves := {leaf.path: leaf_of(leaf) for leaf in sublayer.leaves()}),
        pieces=pieces,
        counts=counts,
        resorted=_sorted_attended(steps)
        if leaves[body.out.path].form == "by_tower" and not leaves[body.out.path].blank
        else frozenset(),
        stream=stream,
        takes=taken[0],
        gives={value: name for later in taken[1:] for value, name in later.items() if value in written},
        borrows=made_of_conditions(layer.gate_of(sublayer)) if sublayer.reads == "normed" else None,
        lends=made_of_conditions(sublayer.modulation) if layer.lends(sublayer) else None,
    )


def _of_tokens(leaf: Leaf) -> Leaf:
    """The leaf without the copies that work on what other tokens made: those go past it."""
    blocks = tuple(block for block in leaf.blocks if not isinstance(block.operator, ReadMap))
    return leaf if len(blocks) == len(leaf.blocks) else replace(leaf, blocks=blocks)


def _blank(leaf: LeafPlan, into_stream: bool, model: Model) -> tuple[int | None, ...]:
    """The zeros of pieces that have no copy of a group of attention: as many as others have, or as the stream has."""
    operator = leaf.leaf.blocks[0].operator
    assert isinstance(operator, Linear)
    widths = {modality.name: modality.width for modality in model.modalities}
    starts = (sum(leaf.counts[:index]) for index in range(len(leaf.counts)))
    sizes = (widths[model.order[start]] if into_stream else operator.out_features for start in starts)
    return tuple(size if name is None else None for size, name in zip(sizes, leaf.route, strict=True))


def _held(leaf: Leaf, model: Model) -> LeafPlan:
    """A leaf of a feed-forward with experts: each copy is applied by itself, to what was sent to it."""
    whole = leaf_plan(leaf, model, None)
    return whole if whole.form == "single" else replace(whole, form="held")


def _in_stream(sublayer: Sublayer, steps: tuple[Step, ...]) -> frozenset[str]:
    """The values that are as wide as the stream: what is added to it or normed beside it, and what comes of that."""
    beside = [Apply(norm) for norm in sublayer.norms.values()]
    beside += [] if sublayer.out_gate is None else [Apply(sublayer.out_gate)]
    values = [steps[0].reads[0]]
    for step in steps:
        if isinstance(step.operation, Add | LeaveOut) or step.operation in beside:
            values += [*step.reads, step.writes]
        elif isinstance(step.operation, Modulate | GateBranch):
            values += [step.reads[0], step.writes]
    return frozenset(value.name for value in values)


def _inner_pieces(body: Body, steps: tuple[Step, ...], model: Model) -> frozenset[str]:
    """The values within a feed-forward of several copies, each piece of which goes its own way: joined, they would need
    memory of their own for the activation.
    """
    if not isinstance(body, FeedForward) or model.execution.groups_copies:
        return frozenset()
    if not any(needs_order(leaf, model) for leaf in body.inner):
        return frozenset()
    activated = next(step for step in steps if isinstance(step.operation, Activate))
    return frozenset(value.name for value in (*activated.reads, activated.writes))


def _sorted_attended(steps: tuple[Step, ...]) -> frozenset[str]:
    """What attention makes, if it is sorted and goes into its group as it is."""
    if any(isinstance(step.operation, Gate) for step in steps):
        return frozenset()
    attended = {step.writes for step in steps if isinstance(step.operation, Attend)}
    return frozenset(step.writes.name for step in steps if step.permutes and step.reads[0] in attended)


def _read_by(steps: tuple[Step, ...], leaf: Leaf) -> set[str]:
    """The values that a leaf reads."""
    return {value.name for step in steps if step.operation == Apply(leaf) for value in step.reads}


class _KindOfSublayer(NamedTuple):
    """What the class of a sublayer follows from: in which modalities are untrained, and what it has to do with those
    beside it.
    """

    sublayer: Sublayer
    untrained: frozenset[str]
    parallel: Parallel | None
    gate: Leaf | None


def _kind_of(layer: Layer, sublayer: Sublayer, untrained: frozenset[str]) -> _KindOfSublayer:
    return _KindOfSublayer(sublayer, untrained, layer.parallel, layer.gate_of(sublayer))


class _Classes:
    """The names of classes. A letter or number each tells different kinds apart; there is none where there is one."""

    def __init__(self, model: str, kinds: Sequence[Layer], untrained: Mapping[int, frozenset[str]]) -> None:
        self.of_layers = {layer: f"{model}Layer{suffix}" for layer, suffix in _suffixes(kinds).items()}
        self.of_sublayers: dict[_KindOfSublayer, str] = {}
        sublayers = [_kind_of(layer, each, untrained[id(layer)]) for layer in kinds for each in layer.sublayers]
        for role in dict.fromkeys(kind.sublayer.role for kind in sublayers):
            title = CLASSES.get(role, camel(role))
            suffixes = _suffixes(each for each in sublayers if each.sublayer.role == role)
            self.of_sublayers |= {each: f"{model}{title}{suffix}" for each, suffix in suffixes.items()}


def _suffixes(kinds: Iterable[Kind]) -> dict[Kind, str]:
    different = list(dict.fromkeys(kinds))
    if len(different) == 1:
        return {different[0]: ""}
    few = len(different) <= 26
    return {kind: chr(ord("A") + index) if few else str(index) for index, kind in enumerate(different)}


def _places(model: Model) -> dict[int, str]:
    """In which layers each kind stands, by its identity: `0..3, 5`."""
    ranges_of: dict[int, list[str]] = {}
    for segment in model.segments:
        ranges_of.setdefault(id(segment.layer), []).append(_range(segment))
    return {key: ", ".join(ranges) for key, ranges in ranges_of.items()}


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
    elif pieces is None and chosen_by_place(leaf, model):
        form = "by_place"
    return LeafPlan(
        attribute=leaf.path.partition(".")[2] or leaf.path,
        leaf=leaf,
        form=form,
        route=tuple(None if block is None else block.name for block, _ in runs),
        counts=tuple(count for _, count in runs),
    )
