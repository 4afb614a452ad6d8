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

from motc.ir.attention import Attention
from motc.ir.feed_forward import FeedForward, Mixture
from motc.ir.layer import Body, Layer, Source, Sublayer
from motc.ir.leaf import Leaf
from motc.ir.low_rank import LowRank
from motc.ir.model import Model
from motc.ir.steps import (
    SPANS,
    Activate,
    Add,
    Apply,
    Attend,
    Gate,
    GateBranch,
    JoinKeys,
    LeaveOut,
    MixExperts,
    Modulate,
    Operation,
    Order,
    Rotate,
    Step,
    Value,
)
from motc.passes.needs import needs_order, numbers_written
from motc.passes.schedule_outer import outer_steps

STREAM = Value("x")
"""What comes into a layer."""


def schedule_steps(model: Model) -> Model:
    """The same model with each layer's `steps`, and those outside the layers."""
    scheduled = model.with_layers(lambda layer: replace(layer, steps=tuple(_Steps(layer, model).steps)))
    return replace(scheduled, outer_steps=outer_steps(model))


def _makes_zeros(sublayer: Sublayer) -> bool:
    """Whether what is made of a token that finds nothing to attend to is zeros as it is."""
    if not isinstance(sublayer.body, Attention):
        return False
    behind = [sublayer.body.out, *([] if sublayer.after is None else [sublayer.after])]
    return not any("bias" in block.operator.shapes() for leaf in behind for block in leaf.blocks)


class _Steps:
    """The steps of one layer, as they are written out. Each method gives the value that its last step writes."""

    def __init__(self, layer: Layer, model: Model) -> None:
        self.model = model
        self.sorts = model.execution.sorts
        self.width = max(modality.width for modality in model.modalities)
        self.steps: list[Step] = []
        self.numbers = {STREAM: self.width}
        x = STREAM
        sources: dict[Source, Value] = {"entry": STREAM}
        for sublayer in layer.sublayers:
            self.role, self.crossing = sublayer.role, layer.crossing
            h = self._modulated(sublayer.modulation, self._apply(sublayer.before, sources.get(sublayer.reads, x)))
            sources.setdefault("normed", h)
            onto = STREAM if sublayer.onto == "entry" else x
            x = self._joined(sublayer, layer.gate_of(sublayer), onto, h)

    def _joined(self, sublayer: Sublayer, gate: Leaf | None, x: Value, h: Value) -> Value:
        """What the body makes of `h`, added to the stream, with the norms after and behind, and gates.

        `gate` is the modulation that has the gate, if there is one.
        """
        branch = self._apply(sublayer.after, self._body(sublayer.body, h))
        if gate is not None:
            branch = self._step(GateBranch(gate), "gated_out", branch, SPANS, numbers=self.width)
        branch = self._apply(sublayer.out_gate, branch)
        if self.crossing is not None and not _makes_zeros(sublayer):
            branch = self._step(LeaveOut(self.crossing), "leave_out", branch, numbers=self.width)
        x = self._step(Add(sublayer.scale), "add", x, branch, numbers=self.width)
        return self._apply(sublayer.joined, x)

    def _body(self, body: Body, h: Value) -> Value:
        match body:
            case Attention():
                return self._attention(body, h)
            case FeedForward():
                return self._feed_forward(body, h)
            case Mixture():  # experts take tokens as they like, of those that are there: all of it is one operation
                needs: Order | None = "sorted" if self.sorts else None
                return self._step(MixExperts(body), "mixture", h, numbers=self.width, needs=needs)
            case _:
                assert_never(body)

    def _attention(self, a: Attention, h: Value) -> Value:
        """Queries, keys and values, attention among them, and the way back to the stream's width."""
        q, k, v = self._asked_and_answered(a, h) if a.low_rank is None else self._of_low_rank(a, a.low_rank, h)
        sinks = () if a.sinks is None else (self._apply(a.sinks, q),)
        mixed = self._step(Attend(a), "mix", q, k, v, *sinks, numbers=a.heads * a.value_size, needs="slots")
        if a.gate is not None:
            mixed = self._step(Gate(), "gated", mixed, self._apply(a.gate, h), numbers=self.numbers[mixed])
        return self._apply(a.out, mixed)

    def _asked_and_answered(self, a: Attention, h: Value) -> tuple[Value, Value, Value]:
        """Queries, keys and values, of the stream."""
        q = self._positioned(a, "rotate_q", a.q_norm, self._apply(a.q, h))
        k = self._positioned(a, "rotate_k", a.k_norm, self._apply(a.k, h))
        return q, k, self._apply(a.v, h)

    def _of_low_rank(self, a: Attention, low: LowRank, h: Value) -> tuple[Value, Value, Value]:
        """Queries, keys and values, of fewer numbers; of queries and keys the last components alone rotate."""
        asking, answering = h, h
        for leaf in a.before(a.q):
            asking = self._apply(leaf, asking)
        q = self._rotated(a, "rotate_q", self._apply(a.q, asking), of_last=True)
        shared = self._rotated(a, "rotate_k", self._apply(low.k_rope, h))
        for leaf in a.before(a.k):
            answering = self._apply(leaf, answering)
        k = self._step(JoinKeys(), "join_k", self._apply(a.k, answering), shared, numbers=a.kv_heads * a.head_dim)
        return q, k, self._apply(a.v, answering)

    def _positioned(self, a: Attention, name: str, norm: Leaf | None, value: Value) -> Value:
        """Queries or keys, normed and rotated by their positions."""
        match a.norm_place:
            case "before_rope":
                return self._rotated(a, name, self._apply(norm, value))
            case "after_rope":
                return self._apply(norm, self._rotated(a, name, value))
            case _:
                assert_never(a.norm_place)

    def _rotated(self, a: Attention, name: str, value: Value, *, of_last: bool = False) -> Value:
        if a.rope is None:
            return value
        return self._step(Rotate(a.rope, of_last), name, value, numbers=self.numbers[value], needs="slots")

    def _feed_forward(self, f: FeedForward, h: Value) -> Value:
        """Up, activated, and down."""
        first = len(self.steps)
        inner = [self._apply(leaf, h) for leaf in f.inner]
        hidden = self._step(Activate(f.kinds), "activation", *inner, numbers=self.numbers[inner[-1]])
        out = self._apply(f.down, hidden)
        within = self.steps[first:]
        if not self.model.execution.groups_copies and any(step.needs for step in within[: len(inner)]):
            self.steps[first:] = [replace(step, needs="sorted") for step in within]  # in pieces, apart until down
        return out

    def _modulated(self, leaf: Leaf | None, h: Value) -> Value:
        """What a norm gives, scaled and shifted by a condition, if it is."""
        if leaf is None or not leaf.modulates("scale", "shift"):
            return h
        return self._step(Modulate(leaf), "modulated", h, SPANS, numbers=self.width)

    def _apply(self, leaf: Leaf | None, value: Value) -> Value:
        """The value after a group; as it is where there is none."""
        if leaf is None:
            return value
        needs: Order | None = "sorted" if self.sorts and needs_order(leaf, self.model) else None
        numbers = max(numbers_written(block.operator) or self.numbers[value] for block in leaf.blocks)
        return self._written(Apply(leaf), leaf.path, value, numbers=numbers, needs=needs)

    def _step(self, operation: Operation, name: str, *reads: Value, numbers: int, needs: Order | None = None) -> Value:
        return self._written(operation, f"{self.role}.{name}", *reads, numbers=numbers, needs=needs)

    def _written(self, operation: Operation, name: str, *reads: Value, numbers: int, needs: Order | None) -> Value:
        writes = Value(name)
        self.numbers[writes] = numbers
        self.steps.append(
            Step(sublayer=self.role, operation=operation, reads=reads, writes=writes, numbers=numbers, needs=needs)
        )
        return writes
