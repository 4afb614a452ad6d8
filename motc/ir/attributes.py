"""What a layer, and what is outside the layers, are to one modality: the attributes that its parameters follow from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from motc.ir.attention import Attention
from motc.ir.condition import Adaptive, Condition, Modulation
from motc.ir.feed_forward import GATED, FeedForward, FfnKind, Mixture, Moe
from motc.ir.latent import LatentEnds
from motc.ir.layer import Layer, Placements
from motc.ir.leaf import Leaf
from motc.ir.low_rank import Ranks
from motc.ir.model import FeatureModality, LatentModality, Modality, Model
from motc.ir.operators import Embedding, Experts, HeadNorm, Linear, Norm, NormKind, Operator, Projector
from motc.ir.rope import Theta
from motc.source import CompilerBug


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAttributes:
    """What a layer is to one modality. `qk_norm_eps` is 0 where there is no norm of heads.

    With `moe`, the feed-forward's kind and hidden size are those of an expert. Of a layer without attention the heads
    are 0, and of one without a feed-forward the kind is None. What `reads` has maps of others' keys and values in place
    of its own; what is read by others goes through `read_by` copies of these. What `crosses` has queries alone, and
    what is `crossed` keys and values alone. So has what has `keys_only`, normed, for all who attend to it.
    `value_dim` is None where values are as large as keys.
    """

    width: int
    norm_kind: NormKind
    norm_eps: float
    norm_offset: int = 0
    norm_weight: bool = True
    norm_bias: bool = True
    placements: Placements = Placements()
    adaptive: Adaptive | None = None
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    value_dim: int | None = None
    ranks: Ranks | None = None
    attention_bias: bool = False
    out_bias: bool = False
    attention_gate: bool = False
    reads: bool = False
    read_by: int = 0
    attention_sinks: bool = False
    crosses: bool = False
    crossed: bool = False
    keys_only: bool = False
    attention_out_gate: bool = False
    ffn_out_gate: bool = False
    qk_norm: HeadNorm | None = None
    qk_norm_eps: float = 0.0
    rope_theta: Theta | None = None
    ffn_kind: FfnKind | None = None
    moe: Moe | None = None
    hidden: int = 0
    ffn_bias: bool = False

    @property
    def attends(self) -> bool:
        """Whether there is attention."""
        return self.heads > 0

    @property
    def asks(self) -> bool:
        """Whether there are queries."""
        return self.attends and not (self.crossed or self.keys_only)

    @property
    def answers(self) -> bool:
        """Whether there are keys and values of its own stream."""
        return self.attends and not (self.crosses or self.reads)

    @property
    def read_flops(self) -> int:
        """What a token of it costs for being read: two products for each copy of the maps."""
        keys, values = self.kv_heads * self.head_dim, self.kv_heads * self.value_size
        return 2 * self.read_by * (keys**2 + values**2)

    @property
    def value_size(self) -> int:
        """The size of a head's values."""
        return self.value_dim or self.head_dim

    @property
    def feeds(self) -> bool:
        """Whether there is a feed-forward, with experts or without."""
        return self.ffn_kind is not None

    @property
    def shares_norm(self) -> bool:
        """Whether the feed-forward reads what attention's norm gives, and is gated with it."""
        return self.feeds and self.placements.of("ffn") == "none" != self.placements.of("attention")

    @property
    def is_gated(self) -> bool:
        """Whether the feed-forward has a gate beside `up`."""
        return self.ffn_kind in GATED


NO_NORM = Norm(kind="rms", shape=(), eps=0.0)
"""What is said of the norms of a layer that has none."""


class Vocabulary(NamedTuple):
    """How many ids there are, and whether they are the modality's own."""

    size: int
    own: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterAttributes:
    """What is outside the layers, to one modality.

    It has a vocabulary, or is continuous and has a `latent` or `features` instead; the others are None. What norms are
    is said of the final one; `embedding_norm` is that of tokens where it is another.
    """

    width: int
    vocab: Vocabulary | None
    latent: LatentEnds | None
    features: Projector | None
    tied: bool
    embedding_scale: float
    learned_positions: int | None
    head_bias: bool
    norm_final: bool
    norm_kind: NormKind
    norm_eps: float
    norm_offset: int = 0
    norm_weight: bool = True
    norm_bias: bool = True
    norm_embedding: bool = False
    embedding_norm: Norm | None = None
    condition: Condition | None = None
    adaptive: Adaptive | None = None


def layer_attributes(layer: Layer, modalities: tuple[Modality, ...]) -> dict[str, LayerAttributes]:
    """What a layer is to each of the model's modalities, read from its groups.

    Raises CompilerBug where a group holds what it cannot hold, or nothing where every modality has something.
    """
    norms = _norms_in(layer, [modality.name for modality in modalities])
    widths = {modality.name: modality.width for modality in modalities}
    modulations = [sublayer.modulation for sublayer in layer.sublayers]
    adaptive = {name: each for leaf in modulations for name, each in _adaptive(leaf).items()}

    gated = {each.role: _held(each.out_gate, ()) if each.out_gate else {} for each in layer.sublayers}
    of_attention, of_ffn = gated.get("attention", {}), gated.get("ffn", {})

    def normed(name: str) -> LayerAttributes:
        return LayerAttributes(
            width=widths[name],
            placements=layer.placements,
            adaptive=adaptive.get(name),
            attention_out_gate=name in of_attention,
            ffn_out_gate=name in of_ffn,
            **_of_norm(norms[name]),
        )

    attributes = _each(widths, normed, (widths, norms, adaptive, of_attention, of_ffn))
    attention, ffn = layer.body("attention"), layer.body("ffn")
    if isinstance(attention, Attention):
        attributes = _with_attention(attributes, attention)
    if isinstance(ffn, FeedForward | Mixture):
        attributes = _with_feed_forward(attributes, ffn)
    return attributes


def _with_attention(attributes: dict[str, LayerAttributes], body: Attention) -> dict[str, LayerAttributes]:
    q, k, crosses = _linears(body.q, ()), _linears(body.k, ()), body.mask.crosses
    out, maps = _linears(body.out, q), k | q
    biased = maps if body.low_rank is None else _linears(body.low_rank.kv_down, k | q)
    head_norms = _norms(body.k_norm) | _norms(body.q_norm)
    gates, sinks = (_held(leaf, ()) if leaf else {} for leaf in (body.gate, body.sinks))

    reading = dict.fromkeys(body.mask.readers, True)
    read_by = Counter(name for reader in body.readers for name in reader.reads)
    rope = body.rope
    thetas: dict[str, Theta] = {}
    if rope is not None:
        thetas = dict.fromkeys(attributes, rope.theta) | dict(zip(attributes, rope.thetas, strict=False))

    def attending(name: str) -> LayerAttributes:
        return replace(
            attributes[name],
            heads=body.heads,
            kv_heads=body.kv_heads,
            head_dim=body.head_dim,
            value_dim=body.value_dim,
            ranks=None if body.low_rank is None else body.low_rank.ranks,
            attention_bias=biased[name].bias,
            out_bias=(out if name in out else biased)[name].bias,
            attention_gate=name in gates,
            reads=name in reading and not crosses,
            crosses=name in reading and crosses,
            crossed=crosses and name not in q,
            keys_only=not crosses and name not in q,
            read_by=read_by[name],
            attention_sinks=name in sinks,
            qk_norm=HeadNorm.read(head_norms[name]) if name in head_norms else None,
            qk_norm_eps=head_norms[name].eps if name in head_norms else 0.0,
            rope_theta=thetas.get(name),
        )

    facts = (attributes, q, k, biased, out, head_norms, thetas, gates, sinks, reading, read_by)
    return attributes | _each(maps, attending, facts)


def _with_feed_forward(
    attributes: dict[str, LayerAttributes], body: FeedForward | Mixture
) -> dict[str, LayerAttributes]:
    kinds = dict(zip(attributes, body.kinds, strict=True))
    up = _linears(body.up, [name for name, kind in kinds.items() if kind is not None])
    moe = body.by_modality(tuple(attributes)) if isinstance(body, Mixture) else {}

    def feeding(name: str) -> LayerAttributes:
        return replace(
            attributes[name],
            ffn_kind=kinds[name],
            moe=moe.get(name),
            hidden=up[name].out_features,
            ffn_bias=up[name].bias,
        )

    return attributes | _each(up, feeding, (attributes, up, kinds, moe))


def _each(
    names: Iterable[str], make: Callable[[str], LayerAttributes], facts: tuple[Mapping[str, object], ...]
) -> dict[str, LayerAttributes]:
    """What is made for each modality from its facts: once for those whose facts are the same objects, as most are."""
    known: dict[tuple[int, ...], LayerAttributes] = {}
    attributes = {}
    for name in names:
        key = tuple(id(fact.get(name)) for fact in facts)
        attributes[name] = known[key] if key in known else known.setdefault(key, make(name))
    return attributes


def _norms_in(layer: Layer, everyone: Iterable[str]) -> dict[str, Norm]:
    """Each modality's last norm in a layer; that of another where it has none, and a plain one where nobody has any, of
    which nothing follows then.
    """
    norms: dict[str, Norm] = {}
    for sublayer in layer.sublayers:
        for leaf in sublayer.norms.values():
            norms |= _norms(leaf)
    return dict.fromkeys(everyone, next(iter(norms.values()), NO_NORM)) | norms


def _of_norm(norm: Norm) -> dict[str, Any]:
    """The attributes that say what a norm is."""
    return {
        "norm_kind": norm.kind,
        "norm_eps": norm.eps,
        "norm_offset": norm.offset,
        "norm_weight": norm.weight,
        "norm_bias": norm.bias,
    }


def outer_attributes(model: Model) -> dict[str, OuterAttributes]:
    """What is outside the layers, to each modality. Without a final norm its kind and eps are the last layer's.

    Raises CompilerBug where a modality has no norm there.
    """
    names = [modality.name for modality in model.modalities]
    last = model.segments[-1].layer
    norms = _norms_in(last, names)
    first, final = _norms(model.embedding_norm), _norms(model.final_norm)
    modulated = _adaptive(model.final_modulation)
    return {
        modality.name: OuterAttributes(
            width=modality.width,
            vocab=_vocabulary(modality, model),
            latent=modality.ends if isinstance(modality, LatentModality) else None,
            features=modality.projector if isinstance(modality, FeatureModality) else None,
            tied=model.tied_embedding,
            learned_positions=model.learned_positions,
            embedding_scale=_embedding_scale(model, modality.name),
            head_bias=model.head_bias and _vocabulary(modality, model) is not None,
            norm_final=_has_final(modality, final),
            norm_embedding=modality.name in first,
            embedding_norm=_other_norm(first.get(modality.name), final.get(modality.name)),
            condition=modality.condition if isinstance(modality, LatentModality) else None,
            adaptive=modulated.get(modality.name),
            **_of_norm((norms | first | final)[modality.name]),
        )
        for modality in model.modalities
    }


def _has_final(modality: Modality, final: Mapping[str, Norm]) -> bool:
    """Whether a modality has a final norm; of features nothing is read, so that theirs is as the others'."""
    return bool(final) if isinstance(modality, FeatureModality) else modality.name in final


def _other_norm(first: Norm | None, final: Norm | None) -> Norm | None:
    """The norm of tokens, where it and a final one are not the same."""
    return None if final is None or first == final else first


def _embedding_scale(model: Model, modality: str) -> float:
    block = None if model.embedding is None else model.embedding.block_of(modality)
    return block.operator.scale if block is not None and isinstance(block.operator, Embedding) else 1.0


def _vocabulary(modality: Modality, model: Model) -> Vocabulary | None:
    if isinstance(modality, LatentModality | FeatureModality):
        return None
    return Vocabulary(model.vocab or 0, own=False) if modality.vocab is None else Vocabulary(modality.vocab, own=True)


def _linears(leaf: Leaf, everyone: Iterable[str]) -> dict[str, Linear | Experts]:
    maps: dict[str, Linear | Experts] = {}
    for name, operator in _held(leaf, everyone).items():
        if not isinstance(operator, Linear | Experts):
            raise CompilerBug(f"{leaf.path} holds {operator}")
        maps[name] = operator
    return maps


def _adaptive(leaf: Leaf | None) -> dict[str, Adaptive]:
    """How each modality's norms are adaptive, one object where several share maps."""
    adaptive: dict[str, Adaptive] = {}
    for block in leaf.blocks if leaf else ():
        if not isinstance(block.operator, Modulation):
            raise CompilerBug(f"a modulation is {block.operator}")
        adaptive |= dict.fromkeys(block.modalities, block.operator.adaptive)
    return adaptive


def _norms(leaf: Leaf | None, everyone: Iterable[str] = ()) -> dict[str, Norm]:
    norms: dict[str, Norm] = {}
    for name, operator in _held(leaf, everyone).items() if leaf else ():
        if not isinstance(operator, Norm):
            raise CompilerBug(f"a norm is {operator}")
        norms[name] = operator
    return norms


def _held(leaf: Leaf, everyone: Iterable[str]) -> dict[str, Operator]:
    """Each modality's operator; those of `everyone` must have one."""
    held = {name: block.operator for block in leaf.blocks for name in block.modalities}
    if missing := [name for name in everyone if name not in held]:
        raise CompilerBug(f"{leaf.path} has nothing for {', '.join(missing)}")
    return held
