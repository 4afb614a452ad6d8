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

from dataclasses import replace
from typing import assert_never

from motc.ir.layer import Attention, Ffn, Layer
from motc.ir.leaf import Leaf
from motc.ir.model import Model
from motc.ir.operators import Embedding, Experts, LatentEnds, Linear, Norm, Operator
from motc.ir.steps import Activate, Add, Apply, Attend, MixExperts, Operation, Order, Rotate, Step, Value

STREAM = Value("x")
"""What comes into a layer."""


def schedule_steps(model: Model) -> Model:
    """The same model with each layer's `steps`."""
    sorts = model.strategy in ("sorted", "grouped")
    return model.with_steps(lambda layer: tuple(_Steps(layer, model, sorts).steps))


def needs_order(leaf: Leaf, model: Model) -> bool:
    """Whether a leaf's tokens must be told apart by where they stand."""
    serves_all = len(leaf.blocks) == 1 and not leaf.blocks[0].name
    return not serves_all and not norms_alike(leaf, model)


def norms_alike(leaf: Leaf, model: Model) -> bool:
    """Whether a leaf is one norm for all modalities but for its weights."""
    operators = {block.operator for block in leaf.blocks}
    complete = all(leaf.block_of(modality.name) for modality in model.modalities)
    return complete and len(operators) == 1 and leaf.is_norm


class _Steps:
    """The steps of one layer, as they are written out. Each method gives the value that its last step writes."""

    def __init__(self, layer: Layer, model: Model, sorts: bool) -> None:
        self.model = model
        self.sorts = sorts
        self.width = max(modality.width for modality in model.modalities)
        self.steps: list[Step] = []
        self.sublayer = "attention"
        self.numbers = {STREAM: self.width}
        x = self._joined(layer, layer.attention, STREAM)
        self.sublayer = "ffn"
        self._joined(layer, layer.ffn, x)

    def _joined(self, layer: Layer, part: Attention | Ffn, x: Value) -> Value:
        """A sublayer: what its body makes of the stream, added to it; normed where the placement says so."""
        h = self._apply(part.norm, x) if layer.placement == "pre" else x
        match part:
            case Attention():
                branch = self._attention(part, h)
            case Ffn():
                branch = self._feed_forward(part, h)
            case _:
                assert_never(part)
        if layer.placement == "sublayer_output":
            branch = self._apply(part.norm, branch)
        x = self._step(Add(), "add", x, branch, numbers=self.width)
        return self._apply(part.norm, x) if layer.placement == "post" else x

    def _attention(self, a: Attention, h: Value) -> Value:
        """Queries, keys and values, attention among them, and the way back to the stream's width."""
        heads = []
        for name, leaf, norm, rotates in (
            ("q", a.q, a.q_norm, True),
            ("k", a.k, a.k_norm, True),
            ("v", a.v, None, False),
        ):
            value = self._apply(leaf, h)
            if norm is not None:
                value = self._apply(norm, value)
            if rotates and a.rope is not None:
                value = self._step(Rotate(), f"rotate_{name}", value, numbers=self.numbers[value], needs="slots")
            heads.append(value)
        mixed = self._step(Attend(), "mix", *heads, numbers=a.heads * a.head_dim, needs="slots")
        return self._apply(a.out, mixed)

    def _feed_forward(self, f: Ffn, h: Value) -> Value:
        """Up, activated, and down; or all of a mixture of experts in one step."""
        if f.moe:
            needs: Order | None = "sorted" if self.sorts else None
            return self._step(MixExperts(), "mixture", h, numbers=self.width, needs=needs)
        first = len(self.steps)
        inner = [self._apply(leaf, h) for leaf in (f.gate, f.up) if leaf is not None]
        hidden = self._step(Activate(), "activation", *inner, numbers=self.numbers[inner[-1]])
        out = self._apply(f.down, hidden)
        within = self.steps[first:]
        if self.model.strategy == "sorted" and any(step.needs for step in within[: len(inner)]):
            self.steps[first:] = [replace(step, needs="sorted") for step in within]  # in pieces, apart until down
        return out

    def _apply(self, leaf: Leaf, value: Value) -> Value:
        needs: Order | None = "sorted" if self.sorts and needs_order(leaf, self.model) else None
        numbers = max(_numbers_written(block.operator) or self.numbers[value] for block in leaf.blocks)
        return self._written(Apply(leaf), leaf.path, value, numbers=numbers, needs=needs)

    def _step(self, operation: Operation, name: str, *reads: Value, numbers: int, needs: Order | None = None) -> Value:
        return self._written(operation, f"{self.sublayer}.{name}", *reads, numbers=numbers, needs=needs)

    def _written(self, operation: Operation, name: str, *reads: Value, numbers: int, needs: Order | None) -> Value:
        writes = Value(name)
        self.numbers[writes] = numbers
        self.steps.append(
            Step(sublayer=self.sublayer, operation=operation, reads=reads, writes=writes, numbers=numbers, needs=needs)
        )
        return writes


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
