"""What a layer's steps are called in the generated file, wherever they are written."""

from __future__ import annotations

from typing import assert_never

from motc.ir.layer import FfnKind, Layer, Rope
from motc.ir.leaf import Leaf
from motc.ir.steps import Activate, Add, Apply, Attend, MixExperts, Permute, Rotate
from motc.plan import LayerPlan
from motc.plan.constants import Constants

PLACEMENT = {"pre": "x + f(norm(x))", "post": "norm(x + f(x))", "sublayer_output": "x + norm(f(x))"}
VARIABLES = {
    "attention.q": "q",
    "attention.k": "k",
    "attention.v": "v",
    "attention.out": "out",
    "ffn.gate": "gate",
    "ffn.up": "up",
    "ffn.down": "out",
}
"""What a group's product is called."""


def variables(layer: Layer) -> dict[str, str]:
    """What each value of a layer is called. What is normed, rotated or added to stays what it is."""
    named: dict[str, str] = {layer.steps[0].reads[0].name: "x"}
    for step in layer.steps:
        before = named[step.reads[0].name]
        match step.operation:
            case Apply(leaf=leaf) if layer.placement == "pre" and leaf in (layer.attention.norm, layer.ffn.norm):
                name = "h"
            case Apply(leaf=leaf):
                name = before if leaf.is_norm else VARIABLES[leaf.path]
            case Rotate() | Add() | Permute():
                name = before
            case Attend():
                name = "mixed"
            case Activate():
                name = "hidden"
            case MixExperts():
                name = "out"
            case _:
                assert_never(step.operation)
        named[step.writes.name] = name
    return named


def activation(kind: FfnKind, gate: str, up: str) -> str:
    """The expression of what a feed-forward makes of `up`, and of `gate` where it is gated."""
    match kind:
        case "swiglu":
            return f"F.silu({gate}) * {up}"
        case "geglu":
            return f"F.gelu({gate}) * {up}"
        case "gelu":
            return f"F.gelu({up})"
        case "relu2":
            return f"F.relu({up}).square()"
        case _:
            assert_never(kind)


def in_heads(projected: str, leaf: Leaf, *, kind: LayerPlan, constants: Constants) -> str:
    """What a projection made, cut into heads if it is a query, a key or a value."""
    a = kind.layer.attention
    if leaf not in (a.q, a.k, a.v):
        return projected
    heads = constants.named("HEADS", a.heads) if leaf == a.q else constants.named("KV_HEADS", a.kv_heads)
    return f"torch.unflatten({projected}, -1, ({heads}, {constants.named('HEAD_DIM', a.head_dim)}))"


def rotate(x: str, rope: Rope | None) -> str:
    """The expression of queries or keys rotated by their positions."""
    assert rope is not None
    return f"rotate_{rope.pairing}({x}, cos, sin)"
