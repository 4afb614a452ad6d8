"""Mixtures of experts in a spec: which keys go together, and that what shares a router shares its experts."""

from __future__ import annotations

from collections.abc import Callable

from motc.ir.attributes import LayerAttributes
from motc.ir.operators import Operator
from motc.ir.partition import Partition
from motc.lower.attributes import feed_forward, mixture
from motc.lower.leaf import LeafBuilder
from motc.schema import Checked
from motc.schema.feed_forward import FfnSpec
from motc.schema.spec import TowerSpec
from motc.source import Diagnostic, Span

BY_TOKENS = (
    *("top_k", "balance", "scores", "normalise", "routed_scale", "correction"),
    *("groups", "top_groups", "group_score"),
)
ROUTED_BY = {**dict.fromkeys(BY_TOKENS, "top_k"), "capacity_factor": "expert_choice"}
NEEDED = {"top_groups": "groups", "group_score": "groups", "shared_hidden": "shared_experts"}
NEEDED |= {"shared_gate": "shared_experts"}
KEYS = ("experts", "expert", "routing", "shared_experts", "shared_hidden", "shared_gate", "router_bias", *ROUTED_BY)


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
    moe = mixture(ffn, ffn.hidden or 0)
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
    for key, needed in NEEDED.items():
        if key in said_here and getattr(ffn, needed) is None:
            message, way_out = f"`{key}` says nothing without `{needed}`", f"leave it out, or say `{needed}` too"
            errors.append(Diagnostic(code="MOT057", message=message, span=checked.key_span(*said(key)), help=way_out))
    if moe.routing == "top_k" and ffn.groups is not None:
        _check_groups(checked, ffn, said, errors)
    if moe.per_token > moe.experts:
        key = "top_k" if moe.routing == "top_k" else "capacity_factor"
        message = f"a token cannot go to {float(moe.per_token):g} of {moe.experts} experts"
        related = _place(checked, "the experts", said("experts"))
        way_out = f"{key} is at most the number of experts" + ("; it is 2 unless given" if key == "top_k" else "")
        span = checked.span(*said(key))
        errors.append(Diagnostic(code="MOT058", message=message, span=span, help=way_out, related=related))


def _check_groups(
    checked: Checked, ffn: FfnSpec, said: Callable[[str], tuple[str, ...]], errors: list[Diagnostic]
) -> None:
    """Whether experts fall into groups, and those that a token chooses from have as many as it goes to."""
    experts, groups, top_k = ffn.experts or 1, ffn.groups or 1, ffn.top_k or 2
    top_groups = ffn.top_groups or groups
    key, way_out = "groups", ""
    if experts % groups:
        message, way_out = f"{experts} experts are not {groups} groups of one size", "groups must divide experts"
    elif top_groups > groups:
        key, message, way_out = "top_groups", f"there are not {top_groups} of {groups} groups", "choose fewer"
    elif top_groups < groups and experts == groups and ffn.group_score != "best":
        message, way_out = "a group of one expert has no best two", "use fewer groups, or group_score = best"
    elif top_k <= experts and top_k > top_groups * (experts // groups):
        key = "top_groups"
        message = f"a token cannot go to {top_k} of {top_groups * (experts // groups)} experts, those of its groups"
        way_out = "choose more groups, or give a smaller top_k; it is 2 unless given"
    if way_out:
        related = _place(checked, "the experts", said("experts"))
        span = checked.span(*said(key))
        errors.append(Diagnostic(code="MOT058", message=message, span=span, help=way_out, related=related))


def _refuse_keys(checked: Checked, where: tuple[str, ...], kind: str, errors: list[Diagnostic]) -> None:
    """Keys of a mixture where there is none."""
    ffn = checked.spec.towers[where[1]].ffn if where else checked.spec.ffn
    if ffn.model_fields_set.isdisjoint(KEYS):
        return
    said = ffn.said()
    for key in KEYS:
        own_kind = (*where, "ffn", "kind") if "kind" in ffn.model_fields_set else ("ffn", "kind")
        if key not in said or checked.is_said_before((*where, "ffn", key), own_kind):
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
    """Those who share experts, or a router, share how they are routed; and experts are untied as a whole.

    By expert choice a router has the same block too: experts choose among its tokens, so these must meet the same ones.
    Where tokens choose, several routers may send them to the same experts, and one router to several towers' experts.
    Shared experts take every token, so whose they are is a matter of their own.
    """
    for name, a in attributes.items():
        if a.moe is None:
            continue
        for path in ("ffn.router", "ffn.up"):
            block = partitions[path].block_of(name)
            differing = next((other for other in block if attributes[other].moe != a.moe), None)
            if differing is not None:
                builder.disagree(path, name, differing, f"{a.moe} and {attributes[differing].moe or 'none'}")
        paths = ["ffn.router"] if a.moe.routing == "expert_choice" else []
        paths += [path for path in ("ffn.gate", "ffn.up", "ffn.down") if operators[path][name] is not None]
        blocks = {path: partitions[path].block_of(name) for path in paths}
        other = next((path for path in paths if blocks[path] != blocks[paths[0]]), None)
        if other is not None:
            builder.disagree_on_experts(paths[0], blocks[paths[0]], other, blocks[other])
            return
