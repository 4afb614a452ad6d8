"""Low-rank attention in a spec: whether what is said beside it goes together with it."""

from __future__ import annotations

from motc.lower.attributes import attends, heads_of
from motc.schema import Checked
from motc.source import Diagnostic


def check_low_rank(checked: Checked, errors: list[Diagnostic]) -> None:
    """Refuse what low-rank attention has not, in the model and in each tower. Appends to `errors`."""
    spec, attention = checked.spec, checked.spec.attention
    if attention.low_rank is None:
        return
    heads, kv_heads, head_dim = heads_of(spec)
    rope_dim = attention.low_rank.rope_dim

    def error(message: str, way_out: str, *path: str) -> None:
        related = (("low-rank attention", checked.span("attention", "low_rank")),)
        span = checked.span(*path)
        errors.append(Diagnostic(code="MOT095", message=message, span=span, help=way_out, related=related))

    if rope_dim >= head_dim:
        message = f"a key of {head_dim} components has none of its own beside a rope_dim of {rope_dim}"
        way_out = "head_dim is what a head has of its own and rope_dim together, such as 128 + 64"
        error(message, way_out, "attention", "low_rank", "rope_dim")
    if attention.rope is not None and attention.rope.fraction != 1:
        message = "a fraction of what rotates is said by rope_dim, all of which rotates"
        error(message, "leave `fraction` out", "attention", "rope", "fraction")
    if kv_heads != heads:
        message = f"of keys and values of low rank all {heads} heads have their own, and kv_heads is {kv_heads}"
        error(message, "leave `kv_heads` out", "attention", "kv_heads")
    if attention.clip is not None:
        error("keys and values of low rank have no `clip`", "leave it out", "attention", "clip")
    places = [((), attention), *((("towers", name), each.attention) for name, each in spec.towers.items())]
    for place, said in places:
        if said.qk_norm is not None:
            message = "queries and keys of low rank have no norm: what they are made of has"
            error(message, "leave `qk_norm` out", *place, "attention", "qk_norm")
    for name, tower in spec.towers.items():
        for key in ("reads", "cross"):
            if getattr(tower.attention, key) and attends(spec, tower):
                message = f"tower {name} cannot have keys and values of others: they are of low rank"
                error(message, f"leave `{key}` out, or low_rank", "towers", name, "attention", key)
