"""Every key of a spec with its value, defaults filled in, and where the value came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from motc.ir.attributes import LayerAttributes
from motc.ir.feed_forward import FfnKind, Moe
from motc.lower.attributes import layer_attributes
from motc.schema import Checked
from motc.schema.section import Section
from motc.schema.spec import Spec
from motc.schema.values import LayerNumbers
from motc.syntax.tree import Entry, Mapping, Node, Scalar

DEFAULT = "default"


def resolved(checked: Checked) -> Iterator[tuple[str, Any, str]]:
    """Dotted key, value, and `file:line`, `--set` or `default`, in the order of the schema."""
    filled = _filled(checked.spec)
    for key, value, origin in _walk((), checked.spec, checked.tree):
        yield key, filled.get(key, value) if origin == DEFAULT else value, origin


def _filled(spec: Spec) -> dict[str, Any]:
    """The defaults that follow from other keys."""
    attributes = layer_attributes(spec, None)
    return {
        **_filled_experts(attributes.moe, attributes.ffn_kind),
        **_filled_losses(spec),
        "attention.kv_heads": attributes.kv_heads,
        "attention.head_dim": attributes.head_dim,
        "attention.value_dim": attributes.value_size,
        **({} if attributes.ranks is None else {"attention.low_rank.eps": attributes.ranks.eps}),
        "attention.out_bias": attributes.out_bias,
        "attention.qk_norm_eps": attributes.qk_norm_eps,
        "ffn.hidden": attributes.hidden,
        **_filled_norms(attributes),
        "attention.scale": attributes.head_dim**-0.5,
        "norm.final": spec.norm.placement != "post",
    }


def _filled_norms(attributes: LayerAttributes) -> dict[str, Any]:
    """Biases of norms, of those that may have them; and what a norm of heads is."""
    filled = {"norm.bias": attributes.norm_bias} if attributes.norm_kind == "layer" else {}
    heads = attributes.qk_norm
    if heads is None:
        return filled
    of_kind = {"attention.qk_norm.bias": heads.bias} if heads.kind == "layer" else {}
    by_head = {} if heads.over_heads else {"attention.qk_norm.by_head": heads.by_head}
    return {**filled, **of_kind, **by_head, "attention.qk_norm.offset": heads.offset}


def _filled_losses(spec: Spec) -> dict[str, Any]:
    tokens = [name for name, modality in spec.modalities.items() if modality.continuous is None]
    weights = {f"modalities.{name}.weight": 1.0 for name in tokens}
    return {**weights, **{f"modalities.{name}.seen_targets": False for name in tokens}}


def _filled_experts(moe: Moe | None, kind: FfnKind | None) -> dict[str, Any]:
    if moe is None:
        return {}
    filled = {"ffn.expert": kind, "ffn.routing": moe.routing}
    if moe.routing == "top_k":
        choice = moe.choice
        chosen = {"scores": choice.scores, "normalise": choice.normalised, "routed_scale": choice.scale}
        chosen |= {"correction": choice.corrected, "top_k": int(moe.per_token), "balance": moe.balance}
        return {**filled, **{f"ffn.{key}": value for key, value in chosen.items()}}
    return {**filled, "ffn.capacity_factor": float(moe.per_token)}


def _walk(path: tuple[str, ...], section: BaseModel, tree: Node | None) -> Iterator[tuple[str, Any, str]]:
    for name, field in type(section).model_fields.items():
        key = field.alias or name
        value = getattr(section, name)
        node = tree.get(key) if isinstance(tree, Mapping) else None
        yield from _values((*path, key), value, node, tree)


def _values(path: tuple[str, ...], value: Any, node: Node | None, above: Node | None) -> Iterator[tuple[str, Any, str]]:
    if isinstance(value, BaseModel):
        if isinstance(node, Scalar) and isinstance(above, Mapping):  # `mask = full` says the section's kind
            key_span = next(entry.key_span for entry in above.entries if entry.key == path[-1])
            first = "by" if "by" in type(value).model_fields else "kind"
            node = Mapping(entries=(Entry(key=first, key_span=key_span, value=node),), span=node.span)
        yield from _walk(path, value, node)
    elif isinstance(value, dict) and value:
        for name, inner in value.items():
            below = node.get(name) if isinstance(node, Mapping) else None
            yield from _values((*path, name), inner, below, node)
    else:
        yield ".".join(path), plain(value), DEFAULT if node is None else _origin(path[-1], node, above)


def _origin(key: str, node: Node, above: Node | None) -> str:
    """Where the key stands, which is where a reader looks."""
    span = node.span
    if isinstance(above, Mapping):
        span = next((entry.key_span for entry in above.entries if entry.key == key), span)
    if span.source.name == "--set":
        return "--set"
    return f"{span.source.name}:{span.source.line_and_column(span.start)[0]}"


def plain(value: Any) -> Any:
    """The value in types JSON knows."""
    match value:
        case Section():
            keys = {name: field.alias or name for name, field in type(value).model_fields.items()}
            return {keys[name]: "none" if said is None else plain(said) for name, said in value.said().items()}
        case dict():
            return {name: plain(inner) for name, inner in value.items()}
        case LayerNumbers():
            return str(value)
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return value
