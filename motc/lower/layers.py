"""The layers of a spec: each group's blocks, as `untie` has them, and the sublayers that they are part of."""

from __future__ import annotations

from typing import assert_never

from motc.ir.attention import Attention
from motc.ir.attributes import LayerAttributes
from motc.ir.feed_forward import FeedForward, Mixture
from motc.ir.inventory import LAYER_GROUPS, LAYER_PATHS
from motc.ir.layer import Body, Layer, Placement, Sublayer
from motc.ir.leaf import Leaf
from motc.ir.mask import Mask
from motc.ir.model import Segment
from motc.ir.operators import Operator
from motc.ir.partition import Partition
from motc.lower.attributes import heads_of, scale_of
from motc.lower.experts import check_sharing
from motc.lower.leaf import LeafBuilder
from motc.lower.rope import lower_rope
from motc.lower.untie import Untied
from motc.schema import Spec

Leaves = dict[str, Leaf | None]


def lower_layers(
    spec: Spec, untied: Untied, attributes: dict[str, LayerAttributes], mask: Mask, builder: LeafBuilder
) -> tuple[Segment, ...]:
    """The layers, in runs of equal ones. The builder tells what does not go together; its errors are all there are."""
    operators = {group.path: {name: group.operator(a) for name, a in attributes.items()} for group in LAYER_GROUPS}
    built: dict[tuple[int, ...], Layer | None] = {}  # by the identity of partitions, of which there is one of each
    alike: dict[Layer, Layer] = {}
    segments = []
    for first, last, partitions in untied.runs:
        key = tuple(map(id, partitions))
        if key not in built:
            layer = _layer(spec, partitions, operators, attributes, mask, builder)
            built[key] = layer and alike.setdefault(layer, layer)
        layer = built[key]
        if layer is not None:
            segments.append(Segment(first=first, last=last, layer=layer))
    return tuple(segments)


def _layer(
    spec: Spec,
    partitions: tuple[Partition, ...],
    operators: dict[str, dict[str, Operator | None]],
    attributes: dict[str, LayerAttributes],
    mask: Mask,
    builder: LeafBuilder,
) -> Layer | None:
    leaves: Leaves = {
        path: builder.build(path, partition, operators[path])
        for path, partition in zip(LAYER_PATHS, partitions, strict=True)
    }
    by_path = dict(zip(LAYER_PATHS, partitions, strict=True))
    _check_activations(by_path, operators, attributes, builder)
    check_sharing(by_path, operators, attributes, builder)
    if builder.errors:  # of this layer, or of one that has the same mistake and was first
        return None
    bodies: dict[str, Body] = {
        "attention": _attention(spec, leaves, mask),
        "ffn": _feed_forward(leaves, tuple(attributes.values())),
    }
    return Layer(
        sublayers=tuple(
            _sublayer(role, body, spec.norm.placement, _sure(leaves, f"{role}.norm")) for role, body in bodies.items()
        )
    )


def _sublayer(role: str, body: Body, placement: Placement, norm: Leaf) -> Sublayer:
    match placement:
        case "pre":
            return Sublayer(role=role, body=body, before=norm)
        case "sublayer_output":
            return Sublayer(role=role, body=body, after=norm)
        case "post":
            return Sublayer(role=role, body=body, joined=norm)
        case _:
            assert_never(placement)


def _attention(spec: Spec, leaves: Leaves, mask: Mask) -> Attention:
    heads, kv_heads, head_dim = heads_of(spec)
    return Attention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mask=mask,
        rope=lower_rope(spec.attention.rope, head_dim),
        q=_sure(leaves, "attention.q"),
        k=_sure(leaves, "attention.k"),
        v=_sure(leaves, "attention.v"),
        out=_sure(leaves, "attention.out"),
        q_norm=leaves["attention.q_norm"],
        k_norm=leaves["attention.k_norm"],
        scale=scale_of(spec),
        softcap=None if spec.attention.softcap is None else float(spec.attention.softcap),
    )


def _feed_forward(leaves: Leaves, attributes: tuple[LayerAttributes, ...]) -> FeedForward | Mixture:
    """The feed-forward of modalities of these attributes, in their order; a mixture if one of them has experts."""
    kinds = tuple(a.ffn_kind for a in attributes if a.ffn_kind is not None)
    moe = tuple(a.moe for a in attributes)
    gate, up, down = leaves["ffn.gate"], _sure(leaves, "ffn.up"), _sure(leaves, "ffn.down")
    if not any(moe):
        return FeedForward(kinds=kinds, gate=gate, up=up, down=down)
    return Mixture(
        kinds=kinds,
        moe=moe,
        router=_sure(leaves, "ffn.router"),
        gate=gate,
        up=up,
        down=down,
        shared_gate=leaves["ffn.shared.gate"],
        shared_up=leaves["ffn.shared.up"],
        shared_down=leaves["ffn.shared.down"],
    )


def _sure(leaves: Leaves, path: str) -> Leaf:
    """A group that every model has here."""
    leaf = leaves[path]
    assert leaf is not None, path
    return leaf


def _check_activations(
    partitions: dict[str, Partition],
    operators: dict[str, dict[str, Operator | None]],
    attributes: dict[str, LayerAttributes],
    builder: LeafBuilder,
) -> None:
    """The activation goes with the hidden vector that `up` makes: those who share it share the kind of FFN."""
    for path in ("ffn.up", "ffn.shared.up"):
        for block in partitions[path].blocks:
            if operators[path][block[0]] is None:
                continue
            kind = attributes[block[0]].ffn_kind
            differing = next((name for name in block if attributes[name].ffn_kind != kind), None)
            if differing is not None:
                builder.disagree(path, block[0], differing, f"{kind} and {attributes[differing].ffn_kind}")
