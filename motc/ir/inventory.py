"""Every parameter group that a model can have, one row each: its path, its section, what it holds, how that starts.

Shapes, numbers of parameters and FLOPs follow from what it holds: `motc.ir.operators`. How a layer or the model applies
a group is another matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar, get_args

from motc.ir.attributes import LayerAttributes, OuterAttributes
from motc.ir.latent import LatentEnds
from motc.ir.operators import (
    Condition,
    Embedding,
    Experts,
    Linear,
    Modulation,
    Norm,
    Operator,
    Projector,
    ReadMap,
    Router,
    Sinks,
    TanhGate,
)

SectionName = Literal["attention", "ffn", "norm"]
Start = Literal["normal", "into_stream"]
"""How a group's matrices and tables start: normal, or smaller, as what they give is added to the stream.

Norms start at 1, biases, sinks, modulations and gates of results at 0, in any group. The numbers are those of
`codegen_templates/initialise.py`.
"""

Attributes = TypeVar("Attributes", LayerAttributes, OuterAttributes)


@dataclass(frozen=True, slots=True)
class Group(Generic[Attributes]):
    """A parameter group. `section` is the word that means it along with others; None where its path alone does.

    `operator` is what it holds for a modality of these attributes, or None where it does not concern it; `start` says
    how that is initialised.
    `is_of_vocabulary`: it has a row for each id, and is each modality's own where vocabularies are.
    """

    path: str
    section: SectionName | None
    operator: Callable[[Attributes], Operator | None]
    start: Start = "normal"
    is_of_vocabulary: bool = False


def _norm(a: LayerAttributes | OuterAttributes) -> Norm:
    return Norm(
        kind=a.norm_kind,
        shape=(a.width,),
        eps=a.norm_eps,
        offset=a.norm_offset,
        weight=a.norm_weight,
        bias=a.norm_bias,
    )


def _embedding_norm(a: OuterAttributes) -> Norm | None:
    if not a.norm_embedding:
        return None
    return _norm(a) if a.embedding_norm is None else replace(a.embedding_norm, shape=(a.width,))


def _attention_norm(a: LayerAttributes) -> Norm | None:
    """The norm of attention: keys and values that are attended to are of the stream as it is."""
    return _norm_of(a, "attention") if a.asks or a.keys_only else None


def _norm_of(a: LayerAttributes, role: str) -> Norm | None:
    """The norm of a sublayer; of two the one before it."""
    return None if a.placements.of(role) == "none" else _norm(a)


def _out_norm(a: LayerAttributes, role: str) -> Norm | None:
    """The second norm of a sublayer, after it."""
    return _norm(a) if a.placements.of(role) == "both" else None


def _modulation(a: LayerAttributes, role: str) -> Modulation | None:
    """What a condition does to a sublayer; one without a norm of its own reads what another's condition has done."""
    if a.adaptive is None or a.placements.of(role) == "none":
        return None
    return a.adaptive.of(a.width)


def _attention_modulation(a: LayerAttributes) -> Modulation | None:
    """That of attention, without a gate where nothing is made that it could be of."""
    if not a.asks and not a.keys_only:
        return None
    modulation = _modulation(a, "attention")
    if a.asks or modulation is None or "gate" not in modulation.parts or a.shares_norm:
        return modulation
    parts = tuple(part for part in modulation.parts if part != "gate")
    return replace(modulation, parts=parts) if parts else None


def _final_modulation(a: OuterAttributes) -> Modulation | None:
    if a.adaptive is None or a.features is not None or a.adaptive.parts == ("gate",):
        return None
    return a.adaptive.of_final(a.width)


def _into_queries(a: LayerAttributes) -> Linear | None:
    if not a.asks:
        return None
    if a.ranks is None:
        return Linear(in_features=a.width, out_features=a.heads * a.head_dim, bias=a.attention_bias)
    return Linear(in_features=a.ranks.q or a.width, out_features=a.heads * a.head_dim, bias=False)


def _into_keys(a: LayerAttributes) -> Linear | None:
    return _answering(a, a.kv_heads * (a.head_dim - (0 if a.ranks is None else a.ranks.rope_dim)))


def _into_values(a: LayerAttributes) -> Linear | None:
    return _answering(a, a.kv_heads * a.value_size)


def _answering(a: LayerAttributes, size: int) -> Linear | None:
    """A map of so many numbers of keys, or of values: of the stream, of what others have, or of few numbers."""
    if a.reads:
        return ReadMap(in_features=size, out_features=size, bias=a.attention_bias)
    if not a.answers:
        return None
    if a.ranks is None:
        return Linear(in_features=a.width, out_features=size, bias=a.attention_bias)
    return Linear(in_features=a.ranks.kv, out_features=size, bias=False)


def _q_rank(a: LayerAttributes) -> int | None:
    return a.ranks.q if a.ranks is not None and a.asks else None


def _kv_rank(a: LayerAttributes) -> int | None:
    return a.ranks.kv if a.ranks is not None and a.answers else None


def _shared_key(a: LayerAttributes) -> Linear | None:
    return _down(a, a.ranks.rope_dim if a.ranks is not None and a.answers else None)


def _down(a: LayerAttributes, size: int | None) -> Linear | None:
    """A map of the stream to so few numbers, where attention has it."""
    return None if size is None else Linear(in_features=a.width, out_features=size, bias=a.attention_bias)


def _down_norm(a: LayerAttributes, size: int | None) -> Norm | None:
    return None if a.ranks is None or size is None else Norm(kind="rms", shape=(size,), eps=a.ranks.eps)


def _out(a: LayerAttributes) -> Linear | None:
    if not a.asks:
        return None
    return Linear(in_features=a.heads * a.value_size, out_features=a.width, bias=a.out_bias)


def _gate(a: LayerAttributes) -> Linear | None:
    if not a.attention_gate:
        return None
    return Linear(in_features=a.width, out_features=a.heads * a.value_size, bias=a.attention_bias)


def _head_norm(a: LayerAttributes, heads: int) -> Norm | None:
    if a.qk_norm is None:
        return None
    return a.qk_norm.of(heads=heads, head_dim=a.head_dim, eps=a.qk_norm_eps)


def _up(a: LayerAttributes) -> Linear | Experts | None:
    return _in_ffn(a, a.width, a.hidden)


def _in_ffn(a: LayerAttributes, in_features: int, out_features: int) -> Linear | Experts | None:
    """A linear map, or one for each expert."""
    if not a.feeds:
        return None
    if a.moe is None:
        return Linear(in_features=in_features, out_features=out_features, bias=a.ffn_bias)
    return Experts(
        count=a.moe.experts,
        active=a.moe.per_token,
        in_features=in_features,
        out_features=out_features,
        bias=a.ffn_bias,
    )


def _router(a: LayerAttributes) -> Linear | None:
    if a.moe is None:
        return None
    if a.moe.choice.is_plain:
        return Linear(in_features=a.width, out_features=a.moe.experts, bias=a.moe.router_bias)
    top_k, choice = int(a.moe.per_token), a.moe.choice
    return Router(in_features=a.width, out_features=a.moe.experts, bias=a.moe.router_bias, top_k=top_k, choice=choice)


def _shared_up(a: LayerAttributes) -> Linear | None:
    """Shared experts are one feed-forward of their sizes together."""
    if a.moe is None or not a.moe.shared:
        return None
    hidden = a.moe.shared_hidden or a.hidden
    return Linear(in_features=a.width, out_features=a.moe.shared * hidden, bias=a.ffn_bias)


def _shared_down(a: LayerAttributes) -> Linear | None:
    up = _shared_up(a)
    return up and Linear(in_features=up.out_features, out_features=up.in_features, bias=up.bias)


def _shared_router(a: LayerAttributes) -> Linear | None:
    if a.moe is None or not a.moe.shared_gate:
        return None
    return Linear(in_features=a.width, out_features=1, bias=False)


def _embedding(a: OuterAttributes) -> Embedding | None:
    return None if a.vocab is None else Embedding(vocab=a.vocab.size, width=a.width, scale=a.embedding_scale)


def _position_embedding(a: OuterAttributes) -> Embedding | None:
    return None if a.learned_positions is None else Embedding(vocab=a.learned_positions, width=a.width)


def _latents(a: OuterAttributes) -> LatentEnds | None:
    return a.latent and replace(a.latent, width=a.width)


def _features(a: OuterAttributes) -> Projector | None:
    return a.features and replace(a.features, width=a.width)


def _condition(a: OuterAttributes) -> Condition | None:
    return a.condition


def _head(a: OuterAttributes) -> Linear | None:
    if a.vocab is None or a.tied:
        return None
    return Linear(in_features=a.width, out_features=a.vocab.size, bias=a.head_bias)


LAYER_GROUPS: tuple[Group[LayerAttributes], ...] = (
    Group("attention.norm", "norm", _attention_norm),
    Group("attention.modulation", "norm", _attention_modulation),
    Group("attention.q_down", "attention", lambda a: _down(a, _q_rank(a))),
    Group("attention.q_down_norm", "attention", lambda a: _down_norm(a, _q_rank(a))),
    Group("attention.kv_down", "attention", lambda a: _down(a, _kv_rank(a))),
    Group("attention.kv_down_norm", "attention", lambda a: _down_norm(a, _kv_rank(a))),
    Group("attention.k_rope", "attention", _shared_key),
    Group("attention.q", "attention", _into_queries),
    Group("attention.k", "attention", _into_keys),
    Group("attention.v", "attention", _into_values),
    Group("attention.out", "attention", _out, "into_stream"),
    Group("attention.q_norm", "attention", lambda a: _head_norm(a, a.heads) if a.asks else None),
    Group("attention.k_norm", "attention", lambda a: _head_norm(a, a.kv_heads) if a.answers else None),
    Group("attention.out_norm", "norm", lambda a: _out_norm(a, "attention") if a.asks else None),
    Group("attention.gate", "attention", _gate),
    Group("attention.sinks", "attention", lambda a: Sinks(heads=a.heads) if a.attention_sinks else None),
    Group("attention.out_gate", "attention", lambda a: TanhGate() if a.attention_out_gate else None),
    Group("ffn.norm", "norm", lambda a: _norm_of(a, "ffn") if a.feeds else None),
    Group("ffn.modulation", "norm", lambda a: _modulation(a, "ffn") if a.feeds else None),
    Group("ffn.gate", "ffn", lambda a: _up(a) if a.is_gated else None),
    Group("ffn.up", "ffn", _up),
    Group("ffn.down", "ffn", lambda a: _in_ffn(a, a.hidden, a.width), "into_stream"),
    Group("ffn.router", "ffn", _router),
    Group("ffn.shared.gate", "ffn", lambda a: _shared_up(a) if a.is_gated else None),
    Group("ffn.shared.up", "ffn", _shared_up),
    Group("ffn.shared.down", "ffn", _shared_down, "into_stream"),
    Group("ffn.shared.router", "ffn", _shared_router),
    Group("ffn.out_norm", "norm", lambda a: _out_norm(a, "ffn") if a.feeds else None),
    Group("ffn.out_gate", "ffn", lambda a: TanhGate() if a.ffn_out_gate else None),
)

OUTER_GROUPS: tuple[Group[OuterAttributes], ...] = (
    Group("embedding", None, _embedding, is_of_vocabulary=True),
    Group("position_embedding", None, _position_embedding),
    Group("latents", None, _latents),
    Group("features", None, _features),
    Group("conditions", None, _condition),
    Group("embedding_norm", "norm", _embedding_norm),
    Group("final_norm", "norm", lambda a: _norm(a) if a.norm_final and a.features is None else None),
    Group("final_modulation", "norm", _final_modulation),
    Group("head", None, _head, is_of_vocabulary=True),
)

OWN = ("latents", "features", "conditions")
"""Groups of which each modality has its own."""

LAYER_PATHS = tuple(group.path for group in LAYER_GROUPS)
OUTER_PATHS = tuple(group.path for group in OUTER_GROUPS if group.path not in OWN)
"""Those outside the layers that modalities can share."""

VOCABULARY_PATHS = tuple(group.path for group in OUTER_GROUPS if group.is_of_vocabulary)


def _in_section(section: SectionName) -> tuple[str, ...]:
    in_layers = (group.path for group in LAYER_GROUPS if group.section == section)
    return (*in_layers, *(group.path for group in OUTER_GROUPS if group.section == section))


SECTIONS: dict[str, tuple[str, ...]] = {section: _in_section(section) for section in get_args(SectionName)}
