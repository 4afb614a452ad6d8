"""What a layer, and what is outside the layers, are to one modality: the attributes that its parameters follow from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from motc.ir.latent import LatentEnds
from motc.ir.layer import GATED, FfnKind, Layer, Moe
from motc.ir.leaf import Leaf
from motc.ir.model import LatentModality, Modality, Model
from motc.ir.operators import Experts, Linear, Norm, NormKind, Operator
from motc.source import CompilerBug


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAttributes:
    """What a layer is to one modality. `qk_norm_eps` is 0 where there is no norm of heads.

    With `moe`, the feed-forward's kind and hidden size are those of an expert.
    """

    width: int
    heads: int
    kv_heads: int
    head_dim: int
    attention_bias: bool
    out_bias: bool
    qk_norm: NormKind | None
    qk_norm_eps: float
    ffn_kind: FfnKind
    moe: Moe | None
    hidden: int
    ffn_bias: bool
    norm_kind: NormKind
    norm_eps: float

    @property
    def is_gated(self) -> bool:
        """Whether the feed-forward has a gate beside `up`."""
        return self.ffn_kind in GATED


class Vocabulary(NamedTuple):
    """How many ids there are, and whether they are the modality's own."""

    size: int
    own: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterAttributes:
    """What is outside the layers, to one modality.

    It has a vocabulary, or is continuous and has a `latent` instead; the other is None.
    """

    width: int
    vocab: Vocabulary | None
    latent: LatentEnds | None
    tied: bool
    norm_final: bool
    norm_kind: NormKind
    norm_eps: float


def layer_attributes(layer: Layer, modalities: tuple[Modality, ...]) -> dict[str, LayerAttributes]:
    """What a layer is to each of the model's modalities, read from its groups.

    Raises CompilerBug where a group holds what it cannot hold, or nothing where every modality has something.
    """
    attention, ffn, names = layer.attention, layer.ffn, [modality.name for modality in modalities]
    q, out, up = (_linears(leaf, names) for leaf in (attention.q, attention.out, ffn.up))
    norms, head_norms = _norms(ffn.norm, names), _norms(attention.q_norm)
    moe = ffn.moe or (None,) * len(modalities)
    return {
        modality.name: LayerAttributes(
            width=modality.width,
            heads=attention.heads,
            kv_heads=attention.kv_heads,
            head_dim=attention.head_dim,
            attention_bias=q[modality.name].bias,
            out_bias=out[modality.name].bias,
            qk_norm=head_norms[modality.name].kind if modality.name in head_norms else None,
            qk_norm_eps=head_norms[modality.name].eps if modality.name in head_norms else 0.0,
            ffn_kind=kind,
            moe=mixture,
            hidden=up[modality.name].out_features,
            ffn_bias=up[modality.name].bias,
            norm_kind=norms[modality.name].kind,
            norm_eps=norms[modality.name].eps,
        )
        for modality, kind, mixture in zip(modalities, ffn.kinds, moe, strict=True)
    }


def outer_attributes(model: Model) -> dict[str, OuterAttributes]:
    """What is outside the layers, to each modality. Without a final norm its kind and eps are the last layer's.

    Raises CompilerBug where a modality has no norm there.
    """
    names = [modality.name for modality in model.modalities]
    norms = _norms(model.final_norm or model.segments[-1].layer.ffn.norm, names)
    return {
        modality.name: OuterAttributes(
            width=modality.width,
            vocab=_vocabulary(modality, model),
            latent=modality.ends if isinstance(modality, LatentModality) else None,
            tied=model.tied_embedding,
            norm_final=model.final_norm is not None,
            norm_kind=norms[modality.name].kind,
            norm_eps=norms[modality.name].eps,
        )
        for modality in model.modalities
    }


def _vocabulary(modality: Modality, model: Model) -> Vocabulary | None:
    if isinstance(modality, LatentModality):
        return None
    return Vocabulary(model.vocab or 0, own=False) if modality.vocab is None else Vocabulary(modality.vocab, own=True)


def _linears(leaf: Leaf, everyone: Sequence[str]) -> dict[str, Linear | Experts]:
    maps: dict[str, Linear | Experts] = {}
    for name, operator in _held(leaf, everyone).items():
        if not isinstance(operator, Linear | Experts):
            raise CompilerBug(f"{leaf.path} holds {operator}")
        maps[name] = operator
    return maps


def _norms(leaf: Leaf | None, everyone: Sequence[str] = ()) -> dict[str, Norm]:
    norms: dict[str, Norm] = {}
    for name, operator in _held(leaf, everyone).items() if leaf else ():
        if not isinstance(operator, Norm):
            raise CompilerBug(f"a norm is {operator}")
        norms[name] = operator
    return norms


def _held(leaf: Leaf, everyone: Sequence[str]) -> dict[str, Operator]:
    """Each modality's operator; those of `everyone` must have one."""
    held = {name: block.operator for block in leaf.blocks for name in block.modalities}
    if missing := [name for name in everyone if name not in held]:
        raise CompilerBug(f"{leaf.path} has nothing for {', '.join(missing)}")
    return held
