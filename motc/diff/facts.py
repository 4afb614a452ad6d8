"""What a diff compares: for each run of equal layers, and for the ends, blocks by leaf and attributes by modality.

A leaf's operators follow from the attributes, so a part's parameters can be counted for any mixture of one model's
blocks and another's attributes: that is how a difference is split among its causes without remainder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from motc.ir.layer import GATED, FfnKind, Layer, Moe
from motc.ir.leaf import Leaf
from motc.ir.model import LatentModality, Model, Objective
from motc.ir.operators import Embedding, Experts, LatentEnds, Linear, Norm, NormKind, Operator

Blocks = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAttributes:
    """What a layer is to one modality, its fields in the order in which a diff changes one after the other."""

    width: int
    heads: int
    kv_heads: int
    head_dim: int
    attention_bias: tuple[bool, bool, bool]
    out_bias: bool
    qk_norm: tuple[NormKind | None, NormKind | None]
    qk_norm_eps: tuple[float | None, float | None]
    mask: str
    rope: str | None
    rope_theta: float | None
    rope_pairing: str | None
    ffn_kind: FfnKind
    moe: Moe | None
    hidden: int
    ffn_bias: tuple[bool, bool]
    norm_kind: NormKind
    norm_eps: float
    placement: str

    def operators(self) -> dict[str, Operator]:
        """Each leaf of the layer that concerns the modality."""
        q_width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        q_bias, k_bias, v_bias = self.attention_bias
        up_bias, down_bias = self.ffn_bias
        norm = Norm(kind=self.norm_kind, shape=(self.width,), eps=self.norm_eps)
        up = self._in_ffn(self.width, self.hidden, up_bias)
        found: dict[str, Operator] = {
            "attention.norm": norm,
            "attention.q": Linear(in_features=self.width, out_features=q_width, bias=q_bias),
            "attention.k": Linear(in_features=self.width, out_features=kv_width, bias=k_bias),
            "attention.v": Linear(in_features=self.width, out_features=kv_width, bias=v_bias),
            "attention.out": Linear(in_features=q_width, out_features=self.width, bias=self.out_bias),
            "ffn.norm": norm,
            "ffn.up": up,
            "ffn.down": self._in_ffn(self.hidden, self.width, down_bias),
        }
        q_norm, k_norm = self.qk_norm
        if q_norm is not None:
            found["attention.q_norm"] = self._head_norm(q_norm, self.heads)
        if k_norm is not None:
            found["attention.k_norm"] = self._head_norm(k_norm, self.kv_heads)
        if self.ffn_kind in GATED:
            found["ffn.gate"] = up
        if self.moe is not None:
            found["ffn.router"] = Linear(in_features=self.width, out_features=self.moe.experts, bias=False)
        if self.moe is not None and self.moe.shared:
            size = self.moe.shared * self.hidden
            shared_up = Linear(in_features=self.width, out_features=size, bias=up_bias)
            if self.ffn_kind in GATED:
                found["ffn.shared.gate"] = shared_up
            found["ffn.shared.up"] = shared_up
            found["ffn.shared.down"] = Linear(in_features=size, out_features=self.width, bias=down_bias)
        return found

    def _in_ffn(self, in_features: int, out_features: int, bias: bool) -> Operator:
        if self.moe is None:
            return Linear(in_features=in_features, out_features=out_features, bias=bias)
        return Experts(
            count=self.moe.experts,
            active=self.moe.per_token,
            in_features=in_features,
            out_features=out_features,
            bias=bias,
        )

    def _head_norm(self, kind: NormKind, heads: int) -> Norm:
        return Norm(kind=kind, shape=(heads, self.head_dim) if kind == "layer" else (self.head_dim,), eps=0.0)

    def flops(self) -> int:
        """The matrix products of one token."""
        return sum(operator.flops for operator in self.operators().values())


@dataclass(frozen=True, slots=True, kw_only=True)
class EndAttributes:
    """What the ends are to one modality. `vocab` is its size and whether it is its own, `latent` what a continuous
    modality has instead; one of the two is None. `seen_targets` is None where the mask shows no token its target.
    """

    width: int
    vocab: tuple[int, bool] | None
    latent: LatentEnds | None
    objective: Objective | None
    weight: float | None
    target_weight: float | None
    seen_targets: bool | None
    tied: bool
    norm_final: bool
    norm_kind: NormKind
    norm_eps: float

    def operators(self) -> dict[str, Operator]:
        """Each leaf of the ends that concerns the modality."""
        found: dict[str, Operator] = {}
        if self.latent is not None:
            found["latents"] = replace(self.latent, width=self.width)
        if self.vocab is not None:
            found["embedding"] = Embedding(vocab=self.vocab[0], width=self.width)
        if self.norm_final:
            found["final_norm"] = Norm(kind=self.norm_kind, shape=(self.width,), eps=self.norm_eps)
        if self.vocab is not None and not self.tied:
            found["head"] = Linear(in_features=self.width, out_features=self.vocab[0], bias=False)
        return found

    def flops(self) -> int:
        """The head's product for one token, tied or not; or those of the ends of a latent."""
        found = 0 if self.latent is None else replace(self.latent, width=self.width).flops
        return found if self.vocab is None else found + 2 * self.width * self.vocab[0]


Attributes = LayerAttributes | EndAttributes


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A run of `count` equal layers, or the ends: blocks and their names by leaf, attributes by modality."""

    count: int
    blocks: Mapping[str, Blocks]
    names: Mapping[tuple[str, tuple[str, ...]], str]
    attributes: Mapping[str, Attributes]

    def leaf_parameters(self) -> dict[str, int]:
        """The parameters of each leaf.

        A block's size is the largest one its modalities ask for; in a valid model they all ask for the same.
        """
        asked = {
            modality: {path: operator.parameters for path, operator in attributes.operators().items()}
            for modality, attributes in self.attributes.items()
        }
        return {
            path: self.count * sum(max(asked[modality].get(path, 0) for modality in block) for block in blocks)
            for path, blocks in self.blocks.items()
        }

    def parameters(self) -> int:
        """All parameters."""
        return sum(self.leaf_parameters().values())

    def flops(self) -> dict[str, int]:
        """The matrix products of one token, by modality."""
        return {modality: self.count * attributes.flops() for modality, attributes in self.attributes.items()}

    def only(self, modalities: tuple[str, ...]) -> Part:
        """This part without the other modalities, and without the blocks that no modality is left in."""
        left = {
            path: tuple(kept for block in blocks if (kept := tuple(name for name in block if name in modalities)))
            for path, blocks in self.blocks.items()
        }
        attributes = {name: self.attributes[name] for name in modalities if name in self.attributes}
        return replace(self, blocks={path: blocks for path, blocks in left.items() if blocks}, attributes=attributes)


def layer_part(model: Model, layer: Layer, count: int, renamed: Mapping[str, str]) -> Part:
    """`count` layers like `layer`, with modalities called as `renamed` has it."""
    attributes = {
        renamed.get(modality.name, modality.name): _layer_attributes(model, layer, modality.name, renamed)
        for modality in model.modalities
    }
    return _part(count, layer.leaves(), attributes, renamed)


def end_part(model: Model, renamed: Mapping[str, str]) -> Part:
    """Embedding, final norm and head, with modalities called as `renamed` has it."""
    attributes: dict[str, Attributes] = {}
    for modality in model.modalities:
        final_norm = _norm(model.final_norm, modality.name)
        norm = final_norm or _norm(model.segments[-1].layer.ffn.norm, modality.name)
        assert norm is not None
        latent = modality if isinstance(modality, LatentModality) else None
        shared = None if latent else (model.vocab or 0, False)
        attributes[renamed.get(modality.name, modality.name)] = EndAttributes(
            width=modality.width,
            vocab=shared if modality.vocab is None else (modality.vocab, True),
            latent=None if latent is None else latent.ends,
            objective=None if latent is None else latent.objective,
            weight=None if latent is None else latent.weight,
            target_weight=None if latent else modality.loss.weight,
            seen_targets=modality.loss.seen_targets,
            tied=model.head is None,
            norm_final=final_norm is not None,
            norm_kind=norm.kind,
            norm_eps=norm.eps,
        )
    return _part(1, model.ends(), attributes, renamed)


def _part(
    count: int, leaves: tuple[Leaf, ...], attributes: Mapping[str, Attributes], renamed: Mapping[str, str]
) -> Part:
    blocks: dict[str, Blocks] = {}
    names: dict[tuple[str, tuple[str, ...]], str] = {}
    order = list(attributes)
    for leaf in leaves:
        found: list[tuple[str, ...]] = []
        for block in leaf.blocks:
            declared = sorted(block.modalities, key=lambda name: order.index(renamed.get(name, name)))
            members = tuple(renamed.get(name, name) for name in declared)
            found.append(members)
            # A name made of its modalities' names follows them when they are renamed.
            default = block.name == "_".join(declared)
            names[leaf.path, tuple(sorted(members))] = "_".join(members) if default else block.name
        blocks[leaf.path] = tuple(found)
    return Part(count=count, blocks=blocks, names=names, attributes=attributes)


def _layer_attributes(model: Model, layer: Layer, modality: str, renamed: Mapping[str, str]) -> LayerAttributes:
    attention, ffn = layer.attention, layer.ffn
    index = [each.name for each in model.modalities].index(modality)
    q_norm, k_norm = _norm(attention.q_norm, modality), _norm(attention.k_norm, modality)
    norm, rope = _norm(ffn.norm, modality), attention.rope
    assert norm is not None
    return LayerAttributes(
        width=model.modalities[index].width,
        heads=attention.heads,
        kv_heads=attention.kv_heads,
        head_dim=attention.head_dim,
        attention_bias=(
            _linear(attention.q, modality).bias,
            _linear(attention.k, modality).bias,
            _linear(attention.v, modality).bias,
        ),
        out_bias=_linear(attention.out, modality).bias,
        qk_norm=(None if q_norm is None else q_norm.kind, None if k_norm is None else k_norm.kind),
        qk_norm_eps=(None if q_norm is None else q_norm.eps, None if k_norm is None else k_norm.eps),
        mask=str(attention.mask.renamed(renamed)),
        rope=None if rope is None else f"theta {rope.theta:g}, pairing {rope.pairing}",
        rope_theta=None if rope is None else rope.theta,
        rope_pairing=None if rope is None else rope.pairing,
        ffn_kind=ffn.kinds[index],
        moe=model.moe.get(modality),
        hidden=_linear(ffn.up, modality).out_features,
        ffn_bias=(_linear(ffn.up, modality).bias, _linear(ffn.down, modality).bias),
        norm_kind=norm.kind,
        norm_eps=norm.eps,
        placement=layer.placement,
    )


def _norm(leaf: Leaf | None, modality: str) -> Norm | None:
    block = None if leaf is None else leaf.block_of(modality)
    operator = None if block is None else block.operator
    assert operator is None or isinstance(operator, Norm)
    return operator


def _linear(leaf: Leaf, modality: str) -> Linear | Experts:
    block = leaf.block_of(modality)
    assert block is not None
    assert isinstance(block.operator, Linear | Experts), f"{leaf.path} is no linear map"
    return block.operator
