"""The typed IR: what a model is, after names, selectors and defaults have been resolved.

Equal consecutive layers are one `Segment`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

from motc.ir.condition import Condition
from motc.ir.denoising import Noising, Objective, Times, Weighting
from motc.ir.execution import Execution, Strategy, execution
from motc.ir.feed_forward import Moe
from motc.ir.latent import LatentEnds
from motc.ir.layer import Layer
from motc.ir.leaf import Block, Leaf
from motc.ir.mask import Mask
from motc.ir.operators import Embedding, Linear, Modulation, Projector
from motc.ir.partition import Partition
from motc.ir.positions import PositionRule
from motc.ir.rope import Angles
from motc.ir.routing import Routing
from motc.ir.steps import Order, OuterSteps, Steps, StreamOrder
from motc.source import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Layers `first` to `last`, both included, all alike."""

    first: int
    last: int
    layer: Layer

    @property
    def count(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLoss:
    """How the targets of a modality of tokens count. `weight` is that of each in the mean over all of them.

    `seen_targets` says whether one counts that the token before it sees; None where the mask shows it none.
    """

    weight: float = 1.0
    seen_targets: bool | None = None

    @property
    def is_plain(self) -> bool:
        """Whether each target counts 1."""
        return self.weight == 1.0 and self.seen_targets is not False


@dataclass(frozen=True, slots=True, kw_only=True)
class Modality:
    """A token modality. `width` is its residual stream's; `vocab` its own table's size, or None where all share one."""

    name: str
    width: int
    vocab: int | None
    loss: TokenLoss = TokenLoss()
    positions: PositionRule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentModality(Modality):
    """A continuous modality: no vocabulary, ends of its own, and a denoising objective with its weight in the loss.

    `noising` says more of `ddpm`, `times` how often latents have how much noise, and `weighting` what they count then.
    """

    ends: LatentEnds
    objective: Objective
    weight: float
    noising: Noising = Noising()
    times: Times = Times()
    weighting: Weighting | None = None
    condition: Condition | None = None

    @property
    def learnt(self) -> str:
        """What is predicted, in words: `ddpm`, or `ddpm (velocity, linear 0.0001 to 0.02)`."""
        return f"{self.objective}{f' ({self.noising})' if self.noising != Noising() else ''}"

    @property
    def denoised(self) -> str:
        """All that is said of the loss in words: `ddpm`, or `flow, times logit_normal(0, 1), weighted by cosmap`."""
        said = self.learnt + (f", times {self.times}" if self.times != Times() else "")
        return said + (f", weighted by {self.weighting}" if self.weighting is not None else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureModality(Modality):
    """A continuous modality whose tokens are vectors that are given; nothing is predicted of them, or by them."""

    projector: Projector


@dataclass(frozen=True, kw_only=True)  # without slots, as it keeps what is asked of it for every layer
class Model:
    """A whole model.

    Logits are what the head makes, times `logit_scale`; with a `logit_softcap` c they become c * tanh(logit / c).
    `order` is the one in which tokens are sorted by modality, `residual` how the residual stream is kept between
    layers, `strategy` how modalities are told apart, `outer_steps` how what is outside the layers is executed; none of
    them changes what a model means. Without modalities of tokens there is no embedding.
    """

    name: str
    modalities: tuple[Modality, ...]
    towers: Partition
    vocab: int | None
    tied_embedding: bool
    embedding: Leaf | None
    segments: tuple[Segment, ...]
    final_norm: Leaf | None
    head: Leaf | None
    final_modulation: Leaf | None = None
    first_position: int = 0
    position_table: Leaf | None = None
    embedding_norm: Leaf | None = None
    order: tuple[str, ...] = field(compare=False)
    logit_scale: float = 1.0
    logit_softcap: float | None = None
    strategy: Strategy = field(default="sorted", compare=False)
    residual: StreamOrder = field(default="slots", compare=False)
    outer_steps: OuterSteps = field(default=OuterSteps(), compare=False)
    span: Span | None = field(default=None, compare=False)

    @property
    def layers(self) -> int:
        return self.segments[-1].last + 1

    @property
    def execution(self) -> Execution:
        """How the strategy runs a model."""
        return execution(self.strategy)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the modalities, in the order of their declaration."""
        return tuple(modality.name for modality in self.modalities)

    @property
    def head_bias(self) -> bool:
        """Whether logits have biases."""
        operators = () if self.head is None else (block.operator for block in self.head.blocks)
        return any(isinstance(operator, Linear) and operator.bias for operator in operators)

    @property
    def masks(self) -> tuple[Mask, ...]:
        """The masks of the layers, each once, in the order of the first layer that has it."""
        return tuple(dict.fromkeys(a.mask for layer, _ in self.kinds for a in layer.attentions))

    @cached_property
    def angles(self) -> tuple[Angles, ...]:
        """The angles of the layers with rotary positions, each once, in the order of the first layer that has them."""
        attentions = (a for layer, _ in self.kinds for a in layer.attentions)
        return tuple(dict.fromkeys(a.angles for a in attentions if a.angles is not None))

    @property
    def learned_positions(self) -> int | None:
        """How many positions have a row in the table of positions, if there is one."""
        if self.position_table is None:
            return None
        return next(b.operator.vocab for b in self.position_table.blocks if isinstance(b.operator, Embedding))

    @property
    def places_by_rule(self) -> bool:
        """Whether positions that are not given are other than 0, 1, 2 ... in each document."""
        return self.first_position != 0 or any(modality.positions for modality in self.modalities)

    @property
    def position_axes(self) -> int:
        """How many numbers a token's position is: as many as the layers' axes, in which they agree."""
        return max((len(angles.axes.pairs) for angles in self.angles if angles.axes is not None), default=1)

    @cached_property
    def is_balanced(self) -> bool:
        """Whether a load-balancing loss is part of the model's."""
        return any(mixture.is_balanced for layer, _ in self.kinds for mixture in layer.mixtures)

    @cached_property
    def is_corrected(self) -> bool:
        """Whether routers have corrections, in some layer at least."""
        return any(moe.choice.corrected for _, moe in self.mixtures)

    @cached_property
    def mixtures(self) -> tuple[tuple[str, Moe], ...]:
        """The modalities that have experts, with how they route in some layer: each pair once."""
        bodies = (mixture for layer, _ in self.kinds for mixture in layer.mixtures)
        return tuple(dict.fromkeys(pair for body in bodies for pair in body.by_modality(self.names).items()))

    @cached_property
    def routings(self) -> frozenset[Routing]:
        """How tokens and experts find each other, in some layer at least; none where there are no experts."""
        return frozenset(moe.routing for _, moe in self.mixtures)

    @cached_property
    def kinds(self) -> tuple[tuple[Layer, int], ...]:
        """Every kind of layer there is, in the order of their first, with how many there are of it.

        Equal layers are one object, as `verify` checks, so that thousands of layers cost what their kinds do.
        """
        counts: dict[int, int] = {}
        layers: dict[int, Layer] = {}
        for segment in self.segments:
            layers.setdefault(id(segment.layer), segment.layer)
            counts[id(segment.layer)] = counts.get(id(segment.layer), 0) + segment.count
        return tuple((layer, counts[key]) for key, layer in layers.items())

    def with_steps(self, change: Callable[[Steps, Order | None], Steps]) -> Model:
        """The same model, the steps of each layer, and those outside them, being what a function makes of them.

        It also gets the order of what they give, None where it is the stream's.
        """
        changed = self.with_layers(lambda layer: replace(layer, steps=change(layer.steps, None)))
        return replace(changed, outer_steps=self.outer_steps.each(change))

    def with_layers(self, change: Callable[[Layer], Layer]) -> Model:
        """The same model, each kind of layer being what a function makes of it."""
        changed = {id(layer): change(layer) for layer, _ in self.kinds}
        segments = (replace(segment, layer=changed[id(segment.layer)]) for segment in self.segments)
        return replace(self, segments=tuple(segments))

    def leaves_before(self) -> tuple[Leaf, ...]:
        """The leaves before the layers: embedding, positions' table, ends, projectors, conditions, a norm."""
        leaves = (
            self.embedding,
            self.position_table,
            self.latents(),
            self.features(),
            self.conditions(),
            self.embedding_norm,
        )
        return tuple(leaf for leaf in leaves if leaf is not None)

    def leaves_after(self) -> tuple[Leaf, ...]:
        """The leaves that tokens go through after the layers: final norm and head, which is none where it is tied."""
        return tuple(leaf for leaf in (self.final_norm, self.final_modulation, self.head) if leaf is not None)

    @property
    def speaks(self) -> bool:
        """Whether some modality has tokens with ids, so that there are an embedding and logits."""
        return self.embedding is not None

    @property
    def read_leaf(self) -> Leaf:
        """The leaf that makes logits: the head, or the embedding that it is tied to. Of a model that speaks."""
        leaf = self.head or self.embedding
        assert leaf is not None, f"{self.name} has no logits"
        return leaf

    def outer_leaves(self) -> tuple[Leaf, ...]:
        """The leaves outside the layers."""
        return self.leaves_before() + self.leaves_after()

    def latent_modalities(self) -> tuple[LatentModality, ...]:
        """The continuous modalities of which latents are denoised."""
        return tuple(modality for modality in self.modalities if isinstance(modality, LatentModality))

    def feature_modalities(self) -> tuple[FeatureModality, ...]:
        """The continuous modalities whose tokens are given vectors."""
        return tuple(modality for modality in self.modalities if isinstance(modality, FeatureModality))

    def continuous_modalities(self) -> tuple[Modality, ...]:
        """The modalities that have no vocabulary."""
        return tuple(modality for modality in self.modalities if isinstance(modality, LatentModality | FeatureModality))

    def token_modalities(self) -> tuple[Modality, ...]:
        """The modalities that have a vocabulary, of their own or with others."""
        continuous = self.continuous_modalities()
        return tuple(modality for modality in self.modalities if modality not in continuous)

    def latents(self) -> Leaf | None:
        """The ends of continuous modalities, each its own; None where there is none."""
        blocks = (
            Block(name=modality.name, modalities=(modality.name,), operator=modality.ends)
            for modality in self.latent_modalities()
        )
        copies = tuple(blocks)
        return Leaf(path="latents", blocks=copies) if copies else None

    def features(self) -> Leaf | None:
        """The projectors of features, each modality its own; None where there is none."""
        copies = tuple(
            Block(name=modality.name, modalities=(modality.name,), operator=modality.projector)
            for modality in self.feature_modalities()
        )
        return Leaf(path="features", blocks=copies) if copies else None

    def conditions(self) -> Leaf | None:
        """The conditions of spans, each modality its own; None where there is none."""
        copies = tuple(
            Block(name=modality.name, modalities=(modality.name,), operator=modality.condition)
            for modality in self.latent_modalities()
            if modality.condition is not None
        )
        return Leaf(path="conditions", blocks=copies) if copies else None

    @cached_property
    def conditioned_by(self) -> dict[str, str]:
        """By modality with adaptive norms, in some layer at least, the one whose condition they have."""
        leaves = [sublayer.modulation for layer, _ in self.kinds for sublayer in layer.sublayers]
        blocks = (block for leaf in (*leaves, self.final_modulation) if leaf for block in leaf.blocks)
        each = ((name, block.operator) for block in blocks for name in block.modalities)
        return {name: operator.by for name, operator in each if isinstance(operator, Modulation)}

    def leaves(self) -> tuple[Leaf, ...]:
        """Every leaf of a segment once, and the outer ones."""
        return (*(leaf for segment in self.segments for leaf in segment.layer.leaves()), *self.outer_leaves())

    def modality(self, name: str) -> Modality:
        return next(modality for modality in self.modalities if modality.name == name)
