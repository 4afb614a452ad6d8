"""What every IR must satisfy, checked after lowering and after each pass."""

from __future__ import annotations

from motc.ir.layer import Ffn, Layer
from motc.ir.leaf import Leaf
from motc.ir.model import Model
from motc.ir.operators import Embedding, Experts, LatentEnds, Linear, Norm
from motc.ir.steps import Order, is_sorted
from motc.source import CompilerBug

OVER_HEADS = ("attention.q_norm", "attention.k_norm")  # norms of heads, whose size is the same whatever the width


def verify(model: Model, stage: str) -> None:
    """Raise CompilerBug if the IR is inconsistent; `stage` says what made it."""
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
    kinds = [layer for layer, _ in model.kinds()]
    require(len(set(kinds)) == len(kinds), "equal layers are not one object")
    for layer in kinds:
        _verify_experts(layer.ffn, names, require)
        if layer.steps:
            _verify_steps(layer, model.residual, require)
    masks = {layer.attention.mask for layer in kinds}
    require(len(masks) == 1, "layers differ in their masks")
    for mask in masks:
        require(mask == mask.simplified(tuple(names)), f"the mask {mask} is not in its simplest form")
    head_dim = model.segments[0].layer.attention.head_dim
    width = {modality.name: modality.width for modality in model.modalities}
    continuous = {modality.name for modality in model.latent_modalities()}
    for modality in model.latent_modalities():
        require(modality.loss.is_plain, f"{modality.name} has no targets that could count otherwise")
    for leaf in (model.embedding, *((model.head,) if model.head else ())):
        served = {name for block in leaf.blocks for name in block.modalities}
        require(served == set(names) - continuous, f"{leaf.path} serves other than the token modalities")
    for leaf in dict.fromkeys((*(leaf for layer in kinds for leaf in layer.leaves()), *model.ends())):
        _verify_leaf(leaf, names, require)
        for block in leaf.blocks:
            widths = {width[name] for name in block.modalities}
            if leaf.path not in OVER_HEADS:
                require(len(widths) == 1, f"{leaf.path} block {block.modalities} spans widths")
            match leaf.path, block.operator:
                case ("attention.q" | "attention.k" | "attention.v" | "ffn.router" | "head", Linear() as op):
                    require({op.in_features} == widths, f"{leaf.path} reads the wrong width")
                case ("ffn.shared.gate" | "ffn.shared.up", Linear() as op):
                    require({op.in_features} == widths, f"{leaf.path} reads the wrong width")
                case ("ffn.gate" | "ffn.up", Linear() | Experts() as op):
                    require({op.in_features} == widths, f"{leaf.path} reads the wrong width")
                case ("attention.out" | "ffn.shared.down", Linear() as op):
                    require({op.out_features} == widths, f"{leaf.path} writes the wrong width")
                case ("ffn.down", Linear() | Experts() as op):
                    require({op.out_features} == widths, f"{leaf.path} writes the wrong width")
                case ("attention.norm" | "ffn.norm" | "final_norm", Norm() as norm):
                    require({norm.shape[-1]} == widths, f"{leaf.path} has the wrong width")
                case ("embedding", Embedding() as table):
                    require({table.width} == widths, "embedding has the wrong width")
                case ("latents", LatentEnds() as ends):
                    require({ends.width} == widths, "the ends of a latent have the wrong width")
                case ("attention.q_norm" | "attention.k_norm", Norm(shape=shape)):
                    require(shape[-1] == head_dim, f"{leaf.path} has the wrong size")
                case _:
                    raise CompilerBug(f"after {stage}: {leaf.path} holds {block.operator}")


def _verify_experts(ffn: Ffn, names: list[str], require: object) -> None:
    """A modality with a mixture has a router, and as many experts in each of its leaves, all of one block."""
    assert callable(require)
    require(len(ffn.moe) in (0, len(names)), "mixtures of experts of other modalities")
    if not ffn.moe:
        found = {type(block.operator) for leaf in ffn.inner() for block in leaf.blocks}
        require(found == {Linear} and ffn.router is None and ffn.shared_up is None, "experts without a mixture")
        return
    for name, moe in zip(names, ffn.moe, strict=True):
        router = None if ffn.router is None else ffn.router.block_of(name)
        require((router is None) == (moe is None), f"the router of {name}")
        for leaf in (ffn.shared_up, ffn.shared_down):
            has_shared = leaf is not None and leaf.block_of(name) is not None
            require(has_shared == (moe is not None and moe.shared > 0), f"shared experts of {name}")
        for leaf in (ffn.gate, ffn.up, ffn.down):
            block = None if leaf is None else leaf.block_of(name)
            if leaf is None or block is None:
                continue
            count = block.operator.count if isinstance(block.operator, Experts) else None
            require(count == (moe and moe.experts), f"{leaf.path} of {name} has {count} experts")
            require(router is None or router.modalities == block.modalities, f"{leaf.path} and the router of {name}")


def _verify_steps(layer: Layer, residual: Order, require: object) -> None:
    """Every value is made before it is read, and every step works in the order it needs, on values in that order."""
    assert callable(require)
    entry = layer.steps[0].reads[0]
    made = {entry}
    for step in layer.steps:
        require(set(step.reads) <= made, f"{step.op} reads what is not made: {step.reads}")
        require(step.order is None or step.needs in (None, step.order), f"{step.op} works in the wrong order")
        made.add(step.writes)
    if any(step.permutes for step in layer.steps) or all(step.order == "slots" for step in layer.steps):
        for step in layer.steps:
            found = {is_sorted(value) for value in (*step.reads, step.writes)}
            expected = {True, False} if step.permutes else {step.order == "sorted"}
            require(found == expected, f"{step.op} mixes orders")
        ends = {is_sorted(entry), is_sorted(layer.steps[-1].writes)}
        require(ends == {residual == "sorted"}, "the stream changes its order")


def _verify_leaf(leaf: Leaf, names: list[str], require: object) -> None:
    seen = [name for block in leaf.blocks for name in block.modalities]
    assert callable(require)
    require(len(seen) == len(set(seen)) and set(seen) <= set(names), f"{leaf.path} has blocks that overlap")
    require(len({block.name for block in leaf.blocks}) == len(leaf.blocks), f"{leaf.path} has two blocks of one name")
    require(bool(leaf.blocks), f"{leaf.path} has no blocks")
