"""What a layer's steps are called in the generated file, wherever they are written."""

from __future__ import annotations

from typing import assert_never

from motc.ir.attention import Attention
from motc.ir.feed_forward import GATED, FfnKind, activation_of
from motc.ir.layer import Body, Sublayer
from motc.ir.leaf import Leaf
from motc.ir.operators import Activation
from motc.ir.steps import Activate, Add, Apply, Attend, InLayers, MixExperts, Permute, Rotate
from motc.plan import SublayerPlan
from motc.plan.constants import Constants


def formula(sublayer: Sublayer) -> str:
    """What a sublayer makes of x, f being its body: `x + f(norm(x))`."""
    branch = "f(norm(x))" if sublayer.before else "f(x)"
    joined = f"x + norm({branch})" if sublayer.after else f"x + {branch}"
    return f"norm({joined})" if sublayer.joined else joined


def variables(part: SublayerPlan) -> dict[str, str]:
    """What each value of a sublayer is called. What is normed, rotated or added to stays what it is."""
    sublayer = part.sublayer
    named: dict[str, str] = {part.steps[0].reads[0].name: "x"}
    for step in part.steps:
        before, operation = named[step.reads[0].name], step.operation
        assert isinstance(operation, InLayers)
        match operation:
            case Apply(leaf=leaf) if leaf == sublayer.before:
                name = "h"
            case Apply(leaf=leaf) if leaf.is_norm:
                name = before
            case Apply(leaf=leaf):
                name = "out" if leaf == sublayer.body.out else part.leaves[leaf.path].attribute
            case Rotate() | Add() | Permute():
                name = before
            case Attend():
                name = "mixed"
            case Activate():
                name = "hidden"
            case MixExperts():
                name = "out"
            case _:
                assert_never(operation)
        named[step.writes.name] = name
    return named


def activation(kind: FfnKind | None, gate: str, up: str) -> str:
    """The expression of what a feed-forward makes of `up`, and of `gate` where it is gated; there may be none."""
    if kind is None:
        return up
    activated = activation_of(kind)
    return f"{_activated(activated, gate)} * {up}" if kind in GATED else _activated(activated, up)


def _activated(activation: Activation, x: str) -> str:
    match activation:
        case "silu" | "gelu" | "relu":
            return f"F.{activation}({x})"
        case "gelu_tanh":
            return f'F.gelu({x}, approximate="tanh")'
        case "quick_gelu":
            return f"quick_gelu({x})"
        case "relu2":
            return f"F.relu({x}).square()"
        case _:
            assert_never(activation)


def in_heads(projected: str, leaf: Leaf, body: Body, constants: Constants) -> str:
    """What a group of a body made, cut into heads if it is queries, keys or values."""
    if not isinstance(body, Attention) or leaf not in (body.q, body.k, body.v):
        return projected
    heads = constants.named("HEADS", body.heads) if leaf == body.q else constants.named("KV_HEADS", body.kv_heads)
    return f"torch.unflatten({projected}, -1, ({heads}, {constants.named('HEAD_DIM', body.head_dim)}))"
