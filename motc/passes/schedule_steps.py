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

from collections.abc import Iterator
from dataclasses import replace
from typing import assert_never

from motc.ir.layer import Layer
from motc.ir.leaf import Leaf
from motc.ir.model import Model
from motc.ir.operators import Embedding, Experts, LatentEnds, Linear, Norm, Operator
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
    numbers_in = {"x": width}

    def step(op: str, *reads: str, numbers: int, needs: Order | None = None) -> Step:
        numbers_in[op] = numbers
        return Step(op=op, reads=reads, writes=op, numbers=numbers, needs=needs)

    def apply(leaf: Leaf, value: str) -> Step:
        needs: Order | None = "sorted" if sorts and needs_order(leaf, model) else None
        numbers = max(_numbers_written(block.operator) or numbers_in[value] for block in leaf.blocks)
        return step(leaf.path, value, numbers=numbers, needs=needs)

    def residual(part: str, x: str, branch: str, norm: Leaf) -> Iterator[Step]:
        """The end of a sublayer: its branch, normed where the placement says so, added to x."""
        if layer.placement == "sublayer_output":
            yield apply(norm, branch)
            branch = norm.path
        yield step(f"{part}.add", x, branch, numbers=width)
        if layer.placement == "post":
            yield apply(norm, f"{part}.add")

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
    yield from (end := list(residual("attention", x, a.out.path, a.norm)))
    x = end[-1].writes
    h = x
    if layer.placement == "pre":
        yield apply(f.norm, x)
        h = f.norm.path
    if f.moe:  # experts take tokens as they like, of those that are there: all of it is one operation
        yield (mixture := step("ffn.mixture", h, numbers=width, needs="sorted" if sorts else None))
        yield from residual("ffn", x, mixture.writes, f.norm)
        return
    inner = [apply(leaf, h) for leaf in (f.gate, f.up) if leaf is not None]
    activation = step("ffn.activation", *(made.writes for made in inner), numbers=inner[-1].numbers)
    within = [*inner, activation, apply(f.down, activation.writes)]
    if model.strategy == "sorted" and any(made.needs for made in inner):
        within = [replace(made, needs="sorted") for made in within]  # in pieces, which stay apart until down
    yield from within
    yield from residual("ffn", x, f.down.path, f.norm)


def _numbers_written(operator: Operator) -> int | None:
    """How many numbers a token has in what an operator writes; None: as many as in what it reads."""
    match operator:
        case Linear(out_features=out_features) | Experts(out_features=out_features):
            return out_features
        case Embedding(width=width) | LatentEnds(width=width):
            return width
        case Norm():
            return None
        case _:
            assert_never(operator)
