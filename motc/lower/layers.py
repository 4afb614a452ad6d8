"""The layers of a spec: each group's blocks, as `untie` has them, and the sublayers that they are part of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from motc.ir.attention import Attention
from motc.ir.attributes import LayerAttributes
from motc.ir.feed_forward import FeedForward, Mixture
from motc.ir.inventory import LAYER_GROUPS, LAYER_PATHS
from motc.ir.layer import Body, Layer, Source, Sublayer
from motc.ir.leaf import Leaf
from motc.ir.low_rank import LowRank
from motc.ir.mask import Mask
from motc.ir.model import Segment
from motc.ir.operators import Operator
from motc.ir.partition import Partition
from motc.lower.attributes import heads_of, norm_place, rotated_head, scale_of, value_dim_of
from motc.lower.experts import check_sharing
from motc.lower.leaf import LeafBuilder
from motc.lower.rope import lower_rope
from motc.lower.untie import Untied
from motc.schema import Checked
from motc.source import Diagnostic, Span

Leaves = dict[str, Leaf | None]
Operators = dict[str, dict[str, Operator | None]]

MAX_KINDS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """What the spec says of a layer, and what that makes the layer to each modality."""

    checked: Checked
    attributes: dict[str, LayerAttributes]
    mask: Mask | None


def lower_layers(specs: tuple[LayerSpec, ...], untied: Untied, builder: LeafBuilder) -> tuple[Segment, ...]:
    """The layers, in runs of equal ones; `specs` has each layer's, one object where the same is said.

    The builder tells what does not go together; its errors are all there are.
    """
    operators = _Operators()
    leaves: dict[tuple[object, ...], Leaf | None] = {}
    built: dict[tuple[int, ...], Layer | None] = {}  # by the identity of partitions, of which there is one of each
    alike: dict[Layer, Layer] = {}
    segments: list[Segment] = []
    for index, (spec, partitions) in enumerate(zip(specs, untied.layers, strict=True)):
        key = (id(spec), *map(id, partitions))
        if key not in built:
            layer = _layer(spec, partitions, operators.of(spec.attributes), builder.of(spec.checked), leaves)
            built[key] = layer and alike.setdefault(layer, layer)
        layer = built[key]
        if layer is None:
            continue
        if segments and segments[-1].layer is layer:
            segments[-1] = Segment(first=segments[-1].first, last=index, layer=layer)
        else:
            segments.append(Segment(first=index, last=index, layer=layer))
    return tuple(segments)


def check_kinds(specs: Sequence[LayerSpec], untied: Untied, checked: Checked, errors: list[Diagnostic]) -> None:
    """Layers differ no more than can be compiled in seconds; `specs` has each layer's. Appends to `errors`."""
    kinds = {(id(spec), *map(id, partitions)) for spec, partitions in zip(specs, untied.layers, strict=True)}
    if len(kinds) > MAX_KINDS:
        message = f"the layers are of {len(kinds):,} kinds, and may be of {MAX_KINDS:,}"
        span, way_out = checked.span("layers"), "say the same of more of them"
        errors.append(Diagnostic(code="MOT088", message=message, span=span, help=way_out))


def check_bodies(layers: Sequence[LayerSpec], errors: list[Diagnostic]) -> None:
    """Some layer attends, and each does something; each that is otherwise is there once. Appends to `errors`."""
    for spec in layers:
        _check_keys(spec, errors)
        if not any(a.attends or a.feeds for a in spec.attributes.values()):
            message = "a layer has neither attention nor a feed-forward"
            span, way_out = spec.checked.span("ffn", "kind"), "leave one of them, or fewer layers"
            errors.append(Diagnostic(code="MOT087", message=message, span=span, help=way_out))
        alone = [name for name, a in spec.attributes.items() if a.feeds and not a.attends]
        if alone and spec.checked.spec.parallel == "one_norm":
            message = f"the feed-forward of {alone[0]} reads what attention's norm gives, and it has no attention"
            span, way_out = spec.checked.span("attention", "kind"), "use parallel = two_norms, or ffn = none there too"
            related = (("the one norm", spec.checked.span("parallel")),)
            errors.append(Diagnostic(code="MOT087", message=message, span=span, help=way_out, related=related))
        _check_around(spec, errors)
    if not any(spec.mask for spec in layers):
        span = layers[0].checked.span("attention", "kind")
        way_out = "leave attention in a layer at least: it is where tokens meet"
        errors.append(Diagnostic(code="MOT087", message="no layer has attention", span=span, help=way_out))
    spec = layers[0]
    for name, modality in spec.checked.spec.modalities.items():
        each = [layer.attributes[name] for layer in layers if layer.attributes[name].attends]
        if modality.features is None and each and all(a.keys_only for a in each):
            message = (
                f"in all layers {name} has keys and values alone, and its tokens, which are predicted, see nothing"
            )
            span, way_out = spec.checked.span("modalities", name), "say `keys` in some layers, or of features"
            errors.append(Diagnostic(code="MOT087", message=message, span=span, help=way_out))


def _check_around(layer: LayerSpec, errors: list[Diagnostic]) -> None:
    """Feed-forwards that are added to what came into a layer read what attention makes. Appends to `errors`."""
    spec = layer.checked.spec
    if spec.residual.around == "sublayer":
        return
    span, related = layer.checked.span("residual", "around"), list[tuple[str, Span]]()
    unread = next((name for name, a in layer.attributes.items() if a.asks and not a.feeds), None)
    if spec.parallel is not None:
        message, related = "sublayers in parallel do not read one another", [("these", layer.checked.span("parallel"))]
    elif unread is not None:
        message = f"what attention makes of {unread} is lost in a layer, where it has no feed-forward to read it"
    else:
        return
    way_out = "use around = sublayer" + (", or give it one" if unread is not None else ", or parallel = none")
    if all(each.span != span for each in errors):
        errors.append(Diagnostic(code="MOT087", message=message, span=span, help=way_out, related=tuple(related)))


def _check_keys(layer: LayerSpec, errors: list[Diagnostic]) -> None:
    """Keys and values alone are for others who attend, and those who have them read none. Appends to `errors`."""
    said = [name for name, tower in layer.checked.spec.towers.items() if tower.attention.kind == "keys"]
    for name in said:
        place = ("towers", name, "attention", "kind")
        if layer.checked.spec.towers[name].attention.reads:
            message = f"tower {name} reads others, and has no queries to do so"
            span, way_out = layer.checked.span(*place), "use reads = [] there, or attention = softmax"
            errors.append(Diagnostic(code="MOT084", message=message, span=span, help=way_out))
    attending = [a for a in layer.attributes.values() if a.attends]
    if said and attending and all(a.keys_only for a in attending):
        message = "there are keys and values in a layer, and nobody has queries"
        span, way_out = layer.checked.span("towers", said[0], "attention", "kind"), "use attention = none there"
        if all(each.span != span for each in errors):
            errors.append(Diagnostic(code="MOT087", message=message, span=span, help=way_out))


class _Operators:
    """What each group holds, asked once of equal attributes; there is one object of what is equal."""

    def __init__(self) -> None:
        self.known: dict[LayerAttributes, tuple[Operator | None, ...]] = {}
        self.alike: dict[Operator | None, Operator | None] = {}

    def of(self, attributes: dict[str, LayerAttributes]) -> Operators:
        """By path and modality."""
        for each in {id(a): a for a in attributes.values()}.values():
            if each not in self.known:
                made = (group.operator(each) for group in LAYER_GROUPS)
                self.known[each] = tuple(self.alike.setdefault(operator, operator) for operator in made)
        held, nothing = [self.known[a] for a in attributes.values()], dict[str, Operator | None].fromkeys(attributes)
        return {
            path: dict(zip(attributes, column, strict=True)) if any(column) else nothing
            for path, column in zip(LAYER_PATHS, zip(*held, strict=True), strict=True)
        }


def _layer(
    spec: LayerSpec,
    partitions: tuple[Partition, ...],
    operators: Operators,
    builder: LeafBuilder,
    known: dict[tuple[object, ...], Leaf | None],
) -> Layer | None:
    """One layer; `known` has the leaves of those before, by their path and the identity of what they are made of."""
    attributes = spec.attributes
    leaves: Leaves = {}
    for path, partition in zip(LAYER_PATHS, partitions, strict=True):
        if not any(operators[path].values()):
            leaves[path] = None
            continue
        key = (path, id(partition), *map(id, operators[path].values()))
        if key not in known:
            known[key] = builder.build(path, partition, operators[path])
        leaves[path] = known[key]
    by_path = dict(zip(LAYER_PATHS, partitions, strict=True))
    _check_activations(by_path, operators, attributes, builder)
    check_sharing(by_path, operators, attributes, builder)
    if builder.errors:  # of this layer, or of one that has the same mistake and was first
        return None
    bodies: dict[str, Body | None] = {
        "attention": None if spec.mask is None else _attention(spec, spec.mask, leaves),
        "ffn": _feed_forward(leaves, tuple(attributes.values())),
    }
    placement, parallel = spec.checked.spec.norm.placement, spec.checked.spec.parallel
    present = {role: body for role, body in bodies.items() if body is not None}
    first, *others = (Sublayer.placed(role, body, placement, leaves) for role, body in present.items())
    source: Source = "stream" if parallel is None else "entry" if parallel == "two_norms" else "normed"
    sublayers = (first, *(replace(sublayer, reads=source) for sublayer in others))
    if spec.checked.spec.residual.around == "layer" and others:
        sublayers = (*sublayers[:-1], replace(sublayers[-1], onto="entry"))
    scale = float(spec.checked.spec.residual.scale)
    return Layer(sublayers=sublayers if scale == 1 else tuple(replace(each, scale=scale) for each in sublayers))


def _attention(layer: LayerSpec, mask: Mask, leaves: Leaves) -> Attention:
    spec, thetas = layer.checked.spec, [a.rope_theta for a in layer.attributes.values()]
    heads, kv_heads, head_dim = heads_of(spec)
    rotates = spec.attention.rope is not None and not mask.crosses
    return Attention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mask=mask,
        rope=None if mask.crosses else lower_rope(spec.attention.rope, rotated_head(spec), thetas),
        q=_sure(leaves, "attention.q"),
        k=_sure(leaves, "attention.k"),
        v=_sure(leaves, "attention.v"),
        out=_sure(leaves, "attention.out"),
        q_norm=leaves["attention.q_norm"],
        k_norm=leaves["attention.k_norm"],
        norm_place=norm_place(spec) if rotates and leaves["attention.q_norm"] else "before_rope",
        gate=leaves["attention.gate"],
        sinks=leaves["attention.sinks"],
        scale=scale_of(spec),
        softcap=None if spec.attention.softcap is None else float(spec.attention.softcap),
        clip=None if spec.attention.clip is None else float(spec.attention.clip),
        value_dim=value_dim_of(spec),
        low_rank=_low_rank(layer, leaves),
    )


def _low_rank(layer: LayerSpec, leaves: Leaves) -> LowRank | None:
    ranks = next((a.ranks for a in layer.attributes.values() if a.ranks is not None), None)
    if ranks is None:
        return None
    return LowRank(
        ranks=ranks,
        kv_down=_sure(leaves, "attention.kv_down"),
        kv_down_norm=_sure(leaves, "attention.kv_down_norm"),
        k_rope=_sure(leaves, "attention.k_rope"),
        q_down=leaves["attention.q_down"],
        q_down_norm=leaves["attention.q_down_norm"],
    )


def _feed_forward(leaves: Leaves, attributes: tuple[LayerAttributes, ...]) -> FeedForward | Mixture | None:
    """The feed-forward of modalities of these attributes, in their order; a mixture if one of them has experts.

    None where no modality has one.
    """
    kinds = tuple(a.ffn_kind for a in attributes)
    moe = tuple(a.moe for a in attributes)
    if not any(kinds):
        return None
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
        shared_router=leaves["ffn.shared.router"],
    )


def _sure(leaves: Leaves, path: str) -> Leaf:
    """A group that every model has here."""
    leaf = leaves[path]
    assert leaf is not None, path
    return leaf


def _check_activations(
    partitions: dict[str, Partition],
    operators: Operators,
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
