"""What each modality's tower makes of the model's attributes, all defaults filled in."""

from __future__ import annotations

from fractions import Fraction

from motc.ir.attributes import LayerAttributes, OuterAttributes, Vocabulary
from motc.ir.latent import LatentEnds, Unet
from motc.ir.layer import GATED, FfnKind, Moe
from motc.schema import Spec
from motc.schema.spec import FfnSpec, LatentSpec, TowerFfn, TowerSpec, UnetSpec


def layer_attributes(spec: Spec, tower: TowerSpec | None) -> LayerAttributes:
    """What a layer is to modalities in `tower` (None: no overrides), with all defaults filled in."""
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
    heads, kv_heads, head_dim = heads_of(spec)
    return LayerAttributes(
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        attention_bias=bias,
        out_bias=out_bias,
        qk_norm=tower.attention.qk_norm if says_qk_norm else spec.attention.qk_norm,
        qk_norm_eps=tower.attention.qk_norm_eps or spec.attention.qk_norm_eps or eps,
        ffn_kind=kind,
        hidden=hidden,
        ffn_bias=spec.ffn.bias if tower.ffn.bias is None else tower.ffn.bias,
        moe=moe,
        norm_kind=tower.norm.kind or spec.norm.kind,
        norm_eps=eps,
    )


def outer_attributes(spec: Spec, name: str, layer: LayerAttributes) -> OuterAttributes:
    """What is outside the layers, to a modality to which the layers are `layer`."""
    modality = spec.modalities[name]
    shared = None if spec.vocab is None else Vocabulary(spec.vocab, own=False)
    own = None if modality.vocab is None else Vocabulary(modality.vocab, own=True)
    final = spec.norm.placement != "post" if spec.norm.final is None else spec.norm.final
    return OuterAttributes(
        width=layer.width,
        vocab=None if modality.latent else own or shared,
        latent=None if modality.latent is None else _latent_ends(modality.latent, layer.width),
        tied=spec.embedding.tied,
        norm_final=final,
        norm_kind=layer.norm_kind,
        norm_eps=layer.norm_eps,
    )


def heads_of(spec: Spec) -> tuple[int, int, int]:
    """Query heads, key and value heads, and the size of one: they are the same in all towers."""
    heads = spec.attention.heads
    return heads, spec.attention.kv_heads or heads, spec.attention.head_dim or max(1, spec.width // heads)


def _latent_ends(latent: LatentSpec, width: int) -> LatentEnds:
    sizes = latent.unet or UnetSpec()
    unet = Unet(channels=sizes.channels, blocks=sizes.blocks) if latent.ends == "unet" else None
    return LatentEnds(channels=latent.channels, patch=latent.patch, width=width, unet=unet)


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
