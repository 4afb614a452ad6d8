"""What a layer's steps are called in the generated file, wherever they are written."""

from __future__ import annotations

from typing import assert_never

from motc.ir.layer import FfnKind
from motc.ir.steps import Step
from motc.plan import LayerPlan
from motc.plan.constants import Constants

PLACEMENT = {"pre": "x + f(norm(x))", "post": "norm(x + f(x))", "sublayer_output": "x + norm(f(x))"}
NORM_VARIABLE = {"pre": "h", "post": "x", "sublayer_output": "out"}
VARIABLES = {
    "x": "x",
    "q": "q",
    "k": "k",
    "v": "v",
    "q_norm": "q",
    "k_norm": "k",
    "rotate_q": "q",
    "rotate_k": "k",
    "mix": "mixed",
    "out": "out",
    "add": "x",
    "gate": "gate",
    "up": "up",
    "activation": "hidden",
    "down": "out",
    "mixture": "out",
}


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


def sublayers(kind: LayerPlan) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The steps of attention, and those of the feed-forward."""
    steps = kind.layer.steps
    end = max(index for index, step in enumerate(steps) if step.op.startswith("attention.")) + 1
    return steps[:end], steps[end:]


def in_heads(projected: str, path: str, *, kind: LayerPlan, constants: Constants) -> str:
    """What a projection made, cut into heads if it is a query, a key or a value."""
    a = kind.layer.attention
    head_dim = constants.named("HEAD_DIM", a.head_dim)
    match path:
        case "attention.q":
            return f"torch.unflatten({projected}, -1, ({constants.named('HEADS', a.heads)}, {head_dim}))"
        case "attention.k" | "attention.v":
            return f"torch.unflatten({projected}, -1, ({constants.named('KV_HEADS', a.kv_heads)}, {head_dim}))"
        case _:
            return projected
