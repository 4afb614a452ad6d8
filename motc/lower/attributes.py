"""What each modality's tower makes of the model's attributes, and which parameters follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from motc.ir.layer import GATED, FfnKind, Moe
from motc.ir.operators import Embedding, Experts, Linear, Norm, NormKind, Operator
from motc.schema import Spec
from motc.schema.spec import FfnSpec, TowerFfn, TowerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """One modality's attributes, with the tower's overrides and all defaults filled in."""

    width: int
    bias: bool
    out_bias: bool
    qk_norm: NormKind | None
    qk_norm_eps: float
    ffn_kind: FfnKind
    hidden: int
    ffn_bias: bool
    moe: Moe | None
    norm_kind: NormKind
    eps: float


def attributes(spec: Spec, tower: TowerSpec | None) -> Attributes:
    """The attributes of modalities in `tower` (None: no overrides)."""
    tower = tower or TowerSpec(modalities=list(spec.modalities))
    width = tower.width or spec.width
    kind, moe = ffn_kind(spec.ffn, tower.ffn), mixture(spec.ffn, tower.ffn)
    hidden = tower.ffn.hidden or spec.ffn.hidden or default_hidden(width, kind)
    eps = tower.norm.eps or spec.norm.eps
    bias = spec.attention.bias if tower.attention.bias is None else tower.attention.bias
    if tower.attention.out_bias is not None:
        out_bias = tower.attention.out_bias
    else:
        out_bias = bias if spec.attention.out_bias is None else spec.attention.out_bias
    says_qk_norm = "qk_norm" in tower.attention.model_fields_set
    return Attributes(
        width=width,
        bias=bias,
        out_bias=out_bias,
        qk_norm=tower.attention.qk_norm if says_qk_norm else spec.attention.qk_norm,
        qk_norm_eps=tower.attention.qk_norm_eps or spec.attention.qk_norm_eps or eps,
        ffn_kind=kind,
        hidden=hidden,
        ffn_bias=spec.ffn.bias if tower.ffn.bias is None else tower.ffn.bias,
        moe=moe,
        norm_kind=tower.norm.kind or spec.norm.kind,
        eps=eps,
    )


def ffn_kind(model: FfnSpec, tower: TowerFfn) -> FfnKind:
    """The kind of a tower's feed-forward, or of its experts: by default the model's, then swiglu."""
    kind = tower.kind or model.kind
    if kind != "moe":
        return kind
    return tower.expert or model.expert or ("swiglu" if model.kind == "moe" else model.kind)


def mixture(model: FfnSpec, tower: TowerFfn) -> Moe | None:
    """The tower's mixture of experts, if its feed-forward is one; what the tower does not say is the model's."""
    if (tower.kind or model.kind) != "moe":
        return None
    routing = tower.routing or model.routing or "top_k"
    experts = tower.experts or model.experts or 1
    shared = tower.shared_experts or model.shared_experts or 0
    if routing == "expert_choice":
        factor = tower.capacity_factor or model.capacity_factor or 1.0
        return Moe(experts=experts, routing=routing, per_token=Fraction(repr(factor)), balance=0.0, shared=shared)
    balance = model.balance if tower.balance is None else tower.balance
    return Moe(
        experts=experts,
        routing=routing,
        per_token=Fraction(tower.top_k or model.top_k or 2),
        balance=0.01 if balance is None else float(balance),
        shared=shared,
    )


def default_hidden(width: int, kind: FfnKind) -> int:
    """Llama's rule: 8/3 of the width rounded up to a multiple of 256 for a gated FFN; four widths otherwise."""
    return -(-(8 * width // 3) // 256) * 256 if kind in GATED else 4 * width


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """What ties all towers together: the shape of attention."""

    heads: int
    kv_heads: int
    head_dim: int


def operator(path: str, a: Attributes, heads: Heads) -> Operator | None:
    """The parameters a modality with attributes `a` has at a layer's `path` (or `final_norm`); None where none."""
    q_width, kv_width = heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim
    match path:
        case "attention.norm" | "ffn.norm" | "final_norm":
            return Norm(kind=a.norm_kind, shape=(a.width,), eps=a.eps)
        case "attention.q":
            return Linear(in_features=a.width, out_features=q_width, bias=a.bias)
        case "attention.k" | "attention.v":
            return Linear(in_features=a.width, out_features=kv_width, bias=a.bias)
        case "attention.out":
            return Linear(in_features=q_width, out_features=a.width, bias=a.out_bias)
        case "attention.q_norm" | "attention.k_norm":
            if a.qk_norm is None:
                return None
            count = heads.heads if path == "attention.q_norm" else heads.kv_heads
            shape = (heads.head_dim,) if a.qk_norm == "rms" else (count, heads.head_dim)
            return Norm(kind=a.qk_norm, shape=shape, eps=a.qk_norm_eps)
        case "ffn.gate" | "ffn.up":
            if path == "ffn.gate" and a.ffn_kind not in GATED:
                return None
            return _in_ffn(a, a.width, a.hidden)
        case "ffn.down":
            return _in_ffn(a, a.hidden, a.width)
        case "ffn.shared.gate" | "ffn.shared.up" | "ffn.shared.down":
            if a.moe is None or not a.moe.shared or (path == "ffn.shared.gate" and a.ffn_kind not in GATED):
                return None
            sizes = (a.width, a.moe.shared * a.hidden)
            in_features, out_features = sizes[::-1] if path == "ffn.shared.down" else sizes
            return Linear(in_features=in_features, out_features=out_features, bias=a.ffn_bias)
        case "ffn.router":
            if a.moe is None:
                return None
            return Linear(in_features=a.width, out_features=a.moe.experts, bias=False)
        case _:
            raise AssertionError(path)


def _in_ffn(a: Attributes, in_features: int, out_features: int) -> Operator:
    """A linear map of the feed-forward, or one for each expert."""
    if a.moe is None:
        return Linear(in_features=in_features, out_features=out_features, bias=a.ffn_bias)
    return Experts(
        count=a.moe.experts,
        active=a.moe.per_token,
        in_features=in_features,
        out_features=out_features,
        bias=a.ffn_bias,
    )


def end_operator(path: str, width: int, vocab: int) -> Operator:
    """The parameters of `embedding` or `head`."""
    if path == "embedding":
        return Embedding(vocab=vocab, width=width)
    return Linear(in_features=width, out_features=vocab, bias=False)
