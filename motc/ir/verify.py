"""What every IR must satisfy, checked after lowering and after each pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from motc.ir.attributes import layer_attributes, outer_attributes
from motc.ir.feed_forward import Mixture
from motc.ir.inventory import LAYER_GROUPS, OUTER_GROUPS, Attributes, Group
from motc.ir.leaf import Leaf
from motc.ir.model import Model
from motc.ir.steps import Order, Steps, StreamOrder, entering
from motc.source import CompilerBug

Require = Callable[[bool, str], None]


def verify(model: Model, stage: str, before: Model | None = None) -> None:
    """Raise CompilerBug if the IR is inconsistent; `stage` says what made it.

    Of sublayers that `before` has too, which is verified and of the same modalities, only the steps are looked at.
    """
    names = [modality.name for modality in model.modalities]

    def require(condition: bool, what: str) -> None:
        if not condition:
            raise CompilerBug(f"after {stage}: {what}")

    require(len(set(names)) == len(names) > 0, "modalities repeat or are missing")
    require(model.towers.universe == tuple(names), "towers of other modalities")
    require(sorted(model.order) == sorted(names), "an order of other modalities")
    expected = 0
    for segment in model.segments:
        require(segment.first == expected and segment.last >= segment.first, f"segment {segment.first} is out of order")
        expected = segment.last + 1
    kinds = [layer for layer, _ in model.kinds]
    require(len(set(kinds)) == len(kinds), "equal layers are not one object")
    for steps, gives in model.outer_steps.parts():
        _verify_steps(steps, model.residual, gives or model.residual, require)
    known: set[int] = set()
    if before is not None and before.modalities == model.modalities:
        known = {id(layer.sublayers) for layer, _ in before.kinds}
    for layer in kinds:
        _verify_steps(layer.steps, model.residual, model.residual, require)
        if id(layer.sublayers) in known:
            continue
        roles = [sublayer.role for sublayer in layer.sublayers]
        require(len(set(roles)) == len(roles) > 0, "the sublayers of a layer are missing, or two of one role")
        first, *others = layer.sublayers
        beside = [sublayer.reads for sublayer in others if sublayer.reads != "stream"]
        is_first = first.reads == first.onto == "stream" and not (beside and first.joined)
        require(is_first, "the first sublayer has none beside it")
        require("normed" not in beside or first.before is not None, "sublayers read a norm that is not there")
        alike = len({(a.mask, a.angles) for a in layer.attentions}) < 2
        require(alike, "attentions of one layer differ in their masks or angles")  # a layer is handed one of each
        for mixture in layer.mixtures:
            _verify_experts(mixture, names, require)
        _verify_groups(layer.leaves(), LAYER_GROUPS, layer_attributes(layer, model.modalities), require)
    _verify_groups(model.outer_leaves(), OUTER_GROUPS, outer_attributes(model), require)
    require(len(model.masks) > 0, "no layer attends")
    for mask in model.masks:
        require(mask == mask.simplified(tuple(names)), f"the mask {mask} is not in its simplest form")
    for each in model.feature_modalities():
        read = range(model.layers - 1)
        require(set(each.projector.added_after) <= {*read}, f"{each.name} is added after layers that no layer follows")
    for modality in model.continuous_modalities():
        require(modality.loss.is_plain, f"{modality.name} has no targets that could count otherwise")


def _verify_groups(
    leaves: tuple[Leaf, ...],
    groups: tuple[Group[Attributes], ...],
    attributes: Mapping[str, Attributes],
    require: Require,
) -> None:
    """In each group a modality has what follows from its attributes, in one block; or nothing, if nothing follows."""
    blocks_of = {leaf.path: leaf.blocks for leaf in leaves}
    unknown = set(blocks_of) - {group.path for group in groups}
    require(not unknown, f"the inventory has no {', '.join(unknown)}")
    require(len(blocks_of) == len(leaves) and all(blocks_of.values()), "a group is there twice, or without blocks")
    places = {each: place for place, each in enumerate(dict.fromkeys(attributes.values()))}
    place_of = {name: places[each] for name, each in attributes.items()}  # of many modalities most are alike
    for group in groups:
        blocks = blocks_of.get(group.path, ())
        served = [name for block in blocks for name in block.modalities]
        require(len(served) == len(set(served)), f"{group.path} has blocks that overlap")
        require(set(served) <= set(attributes), f"{group.path} serves other modalities")
        require(len({block.name for block in blocks}) == len(blocks), f"{group.path} has two blocks of one name")
        operators = [group.operator(each) for each in places]
        without = set(attributes) - set(served)
        wrong = [name for name in attributes if name in without and operators[place_of[name]] is not None]
        for block in blocks:
            in_block = {place_of[name]: name for name in block.modalities}
            wrong += [name for place, name in in_block.items() if operators[place] != block.operator]
        require(not wrong, f"{group.path} of {', '.join(wrong)} is not what follows from the other groups")


def _verify_experts(mixture: Mixture, names: list[str], require: Require) -> None:
    """Experts' groups serve the same modalities, which are routed alike; by expert choice the router does too."""
    moe = mixture.by_modality(tuple(names))
    require(len(mixture.moe) == len(names), "mixtures of experts of other modalities")
    leaves = (mixture.router, mixture.gate, mixture.up, mixture.down)
    for leaf in (leaf for leaf in leaves if leaf is not None):
        for block in leaf.blocks:
            routed = [name for name in block.modalities if name in moe]
            alike = len({moe[name] for name in routed}) < 2
            require(alike, f"those who share {leaf.path} are routed differently")
            for name in routed:
                experts = mixture.up.block_of(name)
                free = leaf is mixture.router and moe[name].routing == "top_k"
                same = free or (experts is not None and experts.modalities == block.modalities)
                require(same, f"experts and the router of {name} serve other modalities")


def _verify_steps(steps: Steps, residual: StreamOrder, gives: Order, require: Require) -> None:
    """Every value is written before it is read, and every step works in the order it needs, on values in that order."""
    if not steps:
        return
    entries = entering(steps)
    written = set(entries)
    for step in steps:
        require(set(step.reads) <= written, f"{step.name} reads what is not written")
        require(step.order is None or step.needs in (None, step.order), f"{step.name} works in the wrong order")
        written.add(step.writes)
    if any(step.permutes for step in steps) or {gives, *(step.order for step in steps)} == {"slots"}:
        for step in steps:
            orders = {value.order for value in (*step.reads, *(() if step.is_sum else (step.writes,)))}
            fits = len(orders) == 2 if step.permutes else orders == {step.order}
            require(fits, f"{step.name} mixes orders")
        stream = {entry.order for entry in entries}
        require(stream == {residual} and steps[-1].writes.order == gives, "the stream changes its order")
