"""IR made by hand, without the compiler's front: for tests of what is computed from the IR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from motc.ir.attention import Attention
from motc.ir.feed_forward import GATED, FeedForward, FfnKind
from motc.ir.layer import Body, Layer, Placement, Sublayer
from motc.ir.leaf import Block, Leaf
from motc.ir.mask import Mask
from motc.ir.model import Modality, Model, Segment
from motc.ir.operators import Embedding, Linear, Norm, NormKind, Operator
from motc.ir.partition import Partition
from motc.ir.rope import Rope

Blocks = tuple[tuple[str, ...], ...]

CAUSAL = Mask(kind="causal")
ROPE = Rope(theta=10000.0, pairing="half")


@dataclass(frozen=True, kw_only=True)
class Tower:
    """What one modality may have otherwise than the rest."""

    width: int = 64
    hidden: int = 96
    kind: FfnKind = "swiglu"
    bias: bool = False
    qk_norm: NormKind | None = None
    norm: NormKind = "rms"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole model: `runs` are (number of layers, leaf path to blocks); a path not named is shared by all."""

    towers: Mapping[str, Tower] = field(default_factory=lambda: {"text": Tower(), "image": Tower()})
    runs: tuple[tuple[int, Mapping[str, Blocks]], ...] = ((4, {}),)
    outer: Mapping[str, Blocks] = field(default_factory=dict)
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    eps: float = 1e-5
    mask: Mask = CAUSAL
    placement: Placement = "pre"
    rope: Rope | None = ROPE
    vocab: int | None = 512
    vocabs: Mapping[str, int] = field(default_factory=dict)
    tied: bool = False
    final: bool = True
    names: Mapping[str, str] = field(default_factory=dict)

    def leaf(self, path: str, operators: Mapping[str, Operator], blocks: Mapping[str, Blocks]) -> Leaf | None:
        chosen = blocks.get(path, (tuple(self.towers),))
        made = []
        for block in chosen:
            default = "" if len(chosen) == 1 else "_".join(block)
            if block[0] in operators:
                assert len({operators[name] for name in block}) == 1, f"{path} {block}"
                name = self.names.get(default, default)
                made.append(Block(name=name, modalities=block, operator=operators[block[0]]))
        return Leaf(path=path, blocks=tuple(made)) if made else None

    def layer(self, blocks: Mapping[str, Blocks]) -> Layer:
        def leaf(path: str, operators: Mapping[str, Operator]) -> Leaf | None:
            return self.leaf(path, operators, blocks)

        def sure(path: str, operators: Mapping[str, Operator]) -> Leaf:
            found = leaf(path, operators)
            assert found is not None
            return found

        towers = self.towers

        def into(out_features: int) -> dict[str, Operator]:
            return {
                name: Linear(in_features=tower.width, out_features=out_features, bias=tower.bias)
                for name, tower in towers.items()
            }

        def head_norm(heads: int) -> dict[str, Operator]:
            return {
                name: Norm(
                    kind=tower.qk_norm,
                    shape=(heads, self.head_dim) if tower.qk_norm == "layer" else (self.head_dim,),
                    eps=self.eps,
                )
                for name, tower in towers.items()
                if tower.qk_norm is not None
            }

        up: dict[str, Operator] = {
            n: Linear(in_features=t.width, out_features=t.hidden, bias=t.bias) for n, t in towers.items()
        }
        attention = Attention(
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            mask=self.mask,
            rope=self.rope,
            q=sure("attention.q", into(self.heads * self.head_dim)),
            k=sure("attention.k", into(self.kv_heads * self.head_dim)),
            v=sure("attention.v", into(self.kv_heads * self.head_dim)),
            out=sure(
                "attention.out",
                {
                    n: Linear(in_features=self.heads * self.head_dim, out_features=t.width, bias=t.bias)
                    for n, t in towers.items()
                },
            ),
            q_norm=leaf("attention.q_norm", head_norm(self.heads)),
            k_norm=leaf("attention.k_norm", head_norm(self.kv_heads)),
        )
        ffn = FeedForward(
            kinds=tuple(tower.kind for tower in towers.values()),
            gate=leaf("ffn.gate", {n: operator for n, operator in up.items() if towers[n].kind in GATED}),
            up=sure("ffn.up", up),
            down=sure(
                "ffn.down",
                {n: Linear(in_features=t.hidden, out_features=t.width, bias=t.bias) for n, t in towers.items()},
            ),
        )
        place = {"pre": "before", "sublayer_output": "after", "post": "joined"}[self.placement]
        bodies: dict[str, Body] = {"attention": attention, "ffn": ffn}
        sublayers = (
            Sublayer(role=role, body=body, **{place: sure(f"{role}.norm", self.norms())})
            for role, body in bodies.items()
        )
        return Layer(sublayers=tuple(sublayers))

    def norms(self) -> dict[str, Operator]:
        return {n: Norm(kind=t.norm, shape=(t.width,), eps=self.eps) for n, t in self.towers.items()}

    def model(self) -> Model:
        names = tuple(self.towers)
        sizes = {name: self.vocabs.get(name, self.vocab or 0) for name in names}
        embeddings = {n: Embedding(vocab=sizes[n], width=t.width) for n, t in self.towers.items()}
        heads = {n: Linear(in_features=t.width, out_features=sizes[n], bias=False) for n, t in self.towers.items()}
        segments, first = [], 0
        for count, blocks in self.runs:
            segments.append(Segment(first=first, last=first + count - 1, layer=self.layer(blocks)))
            first += count
        embedding = self.leaf("embedding", embeddings, self.outer)
        assert embedding is not None
        return Model(
            name="handmade",
            modalities=tuple(
                Modality(name=n, width=t.width, vocab=self.vocabs.get(n) if self.vocab is None else None)
                for n, t in self.towers.items()
            ),
            towers=Partition.each(names),
            vocab=self.vocab,
            tied_embedding=self.tied,
            embedding=embedding,
            segments=tuple(segments),
            final_norm=self.leaf("final_norm", self.norms(), self.outer) if self.final else None,
            head=None if self.tied else self.leaf("head", heads, self.outer),
            order=names,
        )


ATTENTION = tuple(f"attention.{name}" for name in ("q", "k", "v", "out", "q_norm", "k_norm"))
FFN = ("ffn.gate", "ffn.up", "ffn.down")
NORMS = ("attention.norm", "ffn.norm")
LAYER = (*ATTENTION, *FFN, *NORMS)
OUTER = ("embedding", "final_norm", "head")


def untied(paths: tuple[str, ...], *blocks: tuple[str, ...]) -> dict[str, Blocks]:
    """The same blocks for each of the paths."""
    return dict.fromkeys(paths, blocks)


def with_towers(recipe: Recipe, **changed: Tower) -> Recipe:
    """The recipe with some modalities otherwise."""
    return replace(recipe, towers={**recipe.towers, **changed})
