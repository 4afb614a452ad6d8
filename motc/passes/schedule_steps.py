"""Write out a layer as steps.

    before   attention.q {text} {image}, attention.mix ...
    after    attention.norm = attention.norm(x)
             attention.q = attention.q(attention.norm)          needs sorted
             attention.rotate_q = attention.rotate_q(...)       needs slots

A group with a copy for each block needs tokens sorted by modality; attention and rotary positions need them in
sequence. Norms that differ in their weights alone need neither: all tokens are normalised at once, each scaled by its
own. Where modalities are told apart by masks (`reference`, `blend`) nothing is sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import assert_never

from motc.ir.layer import Layer
from motc.ir.leaf import Block, Leaf
from motc.ir.model import Model
from motc.ir.operators import Embedding, Experts, LatentEnds, Linear, Norm
from motc.ir.steps import Order, Step


def schedule_steps(model: Model) -> Model:
    """The same model with each layer's `steps`."""
    sorts = model.strategy in ("sorted", "grouped")
    return model.with_steps(lambda layer: tuple(_layer(layer, model, sorts)))


def needs_order(leaf: Leaf, model: Model) -> bool:
    """Whether a leaf's tokens must be told apart by where they stand."""
    serves_all = len(leaf.blocks) == 1 and not leaf.blocks[0].name
    return not serves_all and not norms_alike(leaf, model)


def norms_alike(leaf: Leaf, model: Model) -> bool:
    """Whether a leaf is one norm for all modalities but for its weights."""
    operators = {block.operator for block in leaf.blocks}
    complete = all(leaf.block_of(modality.name) for modality in model.modalities)
    return complete and len(operators) == 1 and isinstance(leaf.blocks[0].operator, Norm)


def _layer(layer: Layer, model: Model, sorts: bool) -> Iterator[Step]:
    a, f = layer.attention, layer.ffn
    width = max(modality.width for modality in model.modalities)

    def step(op: str, *reads: str, numbers: int, needs: Order | None = None) -> Step:
        return Step(op=op, reads=reads, writes=op, numbers=numbers, needs=needs)

    def apply(leaf: Leaf, value: str) -> Step:
        needs: Order | None = "sorted" if sorts and needs_order(leaf, model) else None
        numbers = max(_numbers(block, leaf, layer) for block in leaf.blocks)
        return step(leaf.path, value, numbers=numbers, needs=needs)

    x = "x"
    h = x
    if layer.placement == "pre":
        yield apply(a.norm, x)
        h = a.norm.path
    found: dict[str, str] = {}
    for name, leaf, norm in (("q", a.q, a.q_norm), ("k", a.k, a.k_norm), ("v", a.v, None)):
        made = apply(leaf, h)
        yield made
        found[name] = leaf.path
        if norm is not None:
            yield apply(norm, found[name])
            found[name] = norm.path
        if a.rope is not None and name != "v":
            yield step(f"attention.rotate_{name}", found[name], numbers=made.numbers, needs="slots")
            found[name] = f"attention.rotate_{name}"
    yield step("attention.mix", *found.values(), numbers=a.heads * a.head_dim, needs="slots")
    yield apply(a.out, "attention.mix")
    yield from (end := list(_residual(layer, "attention", x, a.out.path, a.norm, apply, width)))
    x = end[-1].writes
    h = x
    if layer.placement == "pre":
        yield apply(f.norm, x)
        h = f.norm.path
    if f.moe:  # experts take tokens as they like, of those that are there: all of it is one operation
        yield (mixture := step("ffn.mixture", h, numbers=width, needs="sorted" if sorts else None))
        yield from _residual(layer, "ffn", x, mixture.writes, f.norm, apply, width)
        return
    inner = [apply(leaf, h) for leaf in (f.gate, f.up) if leaf is not None]
    activation = step("ffn.activation", *(made.writes for made in inner), numbers=inner[-1].numbers)
    within = [*inner, activation, apply(f.down, activation.writes)]
    if model.strategy == "sorted" and any(made.needs for made in inner):
        within = [replace(made, needs="sorted") for made in within]  # in pieces, which stay apart until down
    yield from within
    yield from _residual(layer, "ffn", x, f.down.path, f.norm, apply, width)


def _residual(
    layer: Layer, part: str, x: str, branch: str, norm: Leaf, apply: Callable[[Leaf, str], Step], width: int
) -> Iterator[Step]:
    """The end of a sublayer: its branch, normed where the placement says so, added to x."""
    if layer.placement == "sublayer_output":
        yield apply(norm, branch)
        branch = norm.path
    yield Step(op=f"{part}.add", reads=(x, branch), writes=f"{part}.add", numbers=width)
    if layer.placement == "post":
        yield apply(norm, f"{part}.add")


def _numbers(block: Block, leaf: Leaf, layer: Layer) -> int:
    """How many numbers a token has in what a block writes."""
    match block.operator:
        case Linear(out_features=out_features) | Experts(out_features=out_features):
            return out_features
        case Embedding(width=width):
            return width
        case Norm(shape=shape):
            a = layer.attention
            heads = {"attention.q_norm": a.heads, "attention.k_norm": a.kv_heads}.get(leaf.path)
            return shape[-1] if heads is None else heads * a.head_dim
        case LatentEnds(width=width):
            return width
        case _:
            assert_never(block.operator)
