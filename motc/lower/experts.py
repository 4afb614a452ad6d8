"""Mixtures of experts in a spec: which keys go together, and that what shares a router shares its experts."""

from __future__ import annotations

from motc.ir.attributes import LayerAttributes
from motc.ir.operators import Operator
from motc.ir.partition import Partition
from motc.lower.attributes import feed_forward, mixture
from motc.lower.leaf import LeafBuilder
from motc.schema import Checked
from motc.schema.spec import TowerSpec
from motc.source import Diagnostic, Span

KEYS = ("experts", "expert", "shared_experts", "routing", "top_k", "capacity_factor", "balance")
ROUTED_BY = {"top_k": "top_k", "balance": "top_k", "capacity_factor": "expert_choice"}


def check_experts(checked: Checked, errors: list[Diagnostic]) -> None:
    """The keys of mixtures, of the model and of each tower. Appends to `errors`."""
    spec = checked.spec
    _check(checked, (), None, errors)
    for name, tower in spec.towers.items():
        kind = feed_forward(spec, tower).kind
        if kind != "moe":
            _refuse_keys(checked, ("towers", name), kind, errors)
        elif tower.ffn.said():
            _check(checked, ("towers", name), tower, errors)


def _check(checked: Checked, where: tuple[str, ...], tower: TowerSpec | None, errors: list[Diagnostic]) -> None:
    ffn = feed_forward(checked.spec, tower)
    moe = mixture(ffn)
    if moe is None:
        _refuse_keys(checked, where, ffn.kind, errors)
        return
    said_here = (checked.spec if tower is None else tower).ffn.said()

    def said(key: str) -> tuple[str, ...]:
        """Where a key is said: in the tower, else in the model."""
        return (*where, "ffn", key) if key in said_here else ("ffn", key)

    if ffn.experts is None:
        message, way_out = "a mixture of experts needs to know how many", "add `experts`, such as experts = 4"
        errors.append(Diagnostic(code="MOT057", message=message, span=checked.span(*said("kind")), help=way_out))
        return
    for key, routing in ROUTED_BY.items():
        if key in said_here and moe.routing != routing and not checked.is_said_before(said(key), said("routing")):
            message = f"`{key}` says nothing where routing is {moe.routing}"
            related = _place(checked, "the routing", said("routing"))
            way_out = f"leave it out, or use routing = {routing}"
            span = checked.key_span(*said(key))
            errors.append(Diagnostic(code="MOT057", message=message, span=span, help=way_out, related=related))
    if moe.per_token > moe.experts:
        key = "top_k" if moe.routing == "top_k" else "capacity_factor"
        message = f"a token cannot go to {float(moe.per_token):g} of {moe.experts} experts"
        related = _place(checked, "the experts", said("experts"))
        way_out = f"{key} is at most the number of experts" + ("; it is 2 unless given" if key == "top_k" else "")
        span = checked.span(*said(key))
        errors.append(Diagnostic(code="MOT058", message=message, span=span, help=way_out, related=related))


def _refuse_keys(checked: Checked, where: tuple[str, ...], kind: str, errors: list[Diagnostic]) -> None:
    """Keys of a mixture where there is none."""
    ffn = checked.spec.towers[where[1]].ffn if where else checked.spec.ffn
    for key in KEYS:
        own_kind = (*where, "ffn", "kind") if "kind" in ffn.model_fields_set else ("ffn", "kind")
        if key not in ffn.said() or checked.is_said_before((*where, "ffn", key), own_kind):
            continue
        message = f"`{key}` says nothing in a feed-forward of kind {kind}"
        related = _place(checked, "the kind", own_kind)
        way_out = "leave it out, or use kind = moe"
        span = checked.key_span(*where, "ffn", key)
        errors.append(Diagnostic(code="MOT057", message=message, span=span, help=way_out, related=related))


def _place(checked: Checked, label: str, path: tuple[str, ...]) -> tuple[tuple[str, Span], ...]:
    """Another place that takes part, if the text has it."""
    section: object = checked.spec
    for step in path[:-1]:
        section = section[step] if isinstance(section, dict) else getattr(section, step)
    said = path[-1] in getattr(section, "model_fields_set", ())
    return ((label, checked.span(*path)),) if said else ()


def check_sharing(
    partitions: dict[str, Partition],
    operators: dict[str, dict[str, Operator | None]],
    attributes: dict[str, LayerAttributes],
    builder: LeafBuilder,
) -> None:
    """Those who share experts share how they are routed, and what is routed is untied as a whole: router and experts.

    Experts choose among the tokens of their router's block, so these tokens must also meet the same experts. Shared
    experts take every token, so whose they are is a matter of their own.
    """
    router = partitions["ffn.router"]
    for name, a in attributes.items():
        mine, block = a.moe, router.block_of(name)
        differing = next((other for other in block if attributes[other].moe != mine), None)
        if mine is not None and differing is not None:
            builder.disagree("ffn.router", name, differing, f"{mine} and {attributes[differing].moe or 'none'}")
        for path in ("ffn.gate", "ffn.up", "ffn.down"):
            served = partitions[path].block_of(name)
            if mine is not None and operators[path][name] is not None and served != block:
                builder.disagree_on_experts(path, served, block)
                return
