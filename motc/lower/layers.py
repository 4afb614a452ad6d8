"""The layers of a spec: each group's blocks, as `untie` has them, and what they are part of."""

from __future__ import annotations

from motc.ir.attributes import LayerAttributes
from motc.ir.inventory import LAYER_GROUPS, LAYER_PATHS
from motc.ir.layer import Attention, Ffn, Layer, Rope
from motc.ir.leaf import Leaf
from motc.ir.mask import Mask
from motc.ir.model import Segment
from motc.ir.operators import Operator
from motc.ir.partition import Partition
from motc.lower.attributes import heads_of
from motc.lower.experts import check_sharing
from motc.lower.leaf import LeafBuilder
from motc.lower.untie import Untied
from motc.schema import Spec


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
    leaf: dict[str, Leaf | None] = {
        path: builder.build(path, partition, operators[path])
        for path, partition in zip(LAYER_PATHS, partitions, strict=True)
    }
    by_path = dict(zip(LAYER_PATHS, partitions, strict=True))
    _check_activations(by_path, operators, attributes, builder)
    check_sharing(by_path, operators, attributes, builder)
    heads, kv_heads, head_dim = heads_of(spec)
    rope = spec.attention.rope
    q, k, v, out = (leaf[f"attention.{name}"] for name in ("q", "k", "v", "out"))
    norm, ffn_norm, ffn_up, down = (leaf[path] for path in ("attention.norm", "ffn.norm", "ffn.up", "ffn.down"))
    if builder.errors:  # of this layer, or of one that has the same mistake and was first
        return None
    assert q and k and v and out and norm and ffn_norm and ffn_up and down
    attention = Attention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mask=mask,
        rope=None if rope is None else Rope(theta=float(rope.theta), pairing=rope.pairing),
        q=q,
        k=k,
        v=v,
        out=out,
        q_norm=leaf["attention.q_norm"],
        k_norm=leaf["attention.k_norm"],
        norm=norm,
    )
    moe = tuple(a.moe for a in attributes.values())
    ffn = Ffn(
        kinds=tuple(a.ffn_kind for a in attributes.values()),
        gate=leaf["ffn.gate"],
        up=ffn_up,
        down=down,
        norm=ffn_norm,
        moe=moe if any(moe) else (),
        router=leaf["ffn.router"],
        shared_gate=leaf["ffn.shared.gate"],
        shared_up=leaf["ffn.shared.up"],
        shared_down=leaf["ffn.shared.down"],
    )
    return Layer(placement=spec.norm.placement, attention=attention, ffn=ffn)


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
