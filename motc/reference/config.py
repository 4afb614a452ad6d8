"""What a model consists of, and where each modality's parameters are found by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from motc.reference.conditions import ReferenceCondition, ReferenceModulation
from motc.reference.experts import ReferenceMoe
from motc.reference.features import ReferenceFeatures
from motc.reference.latents import ReferenceLatent
from motc.reference.operators import FfnKind, ReferenceNorm
from motc.reference.positions import ReferenceRule
from motc.reference.rope import ReferenceRope
from motc.reference.visibility import ReferenceMask

Prefixes = Mapping[str, str]
"""Modality to the prefix of its parameters' names; a modality that lacks the group is missing."""


Norms = Mapping[str, ReferenceNorm]
"""Modality to its norm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceAttention:
    """Attention of these heads. Its groups are .q, .k, .v, .out, .q_norm, .k_norm, .gate, and .sinks.

    A head's values have `value_dim` components. With a `shared_dim` attention is of low rank: keys end in so many
    components that are one for all heads, and rotate as those of queries do. It has .kv_down, .kv_down_norm and
    .k_rope besides, and may have .q_down and .q_down_norm.

    `scale` is what scores are multiplied with, None for 1 / sqrt(head_dim); a `softcap` c makes c tanh(scores / c) of
    them. With a `clip` c what is below -c or above c in projected queries, keys and values is these.
    """

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    mask: ReferenceMask
    rope: ReferenceRope | None
    scale: float | None = None
    softcap: float | None = None
    clip: float | None = None
    norm_after_rope: bool = False
    shared_dim: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFeedForward:
    """The kind of feed-forward of each modality that has one, and the mixtures of those who have experts.

    Its groups are .gate, .up, .down, and .router, .shared.gate, .shared.up, .shared.down, .shared.router. Modalities
    that have the same experts choose, or are chosen from, together.
    """

    kinds: Mapping[str, FfnKind]
    moe: Mapping[str, ReferenceMoe] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSublayer:
    """A body with its norm, whose group is .norm, and if it has both a second one, .out_norm, after it.

    What it makes is added times `scale`. All groups begin with `name`, such as attention.q. It reads the stream as it
    comes to it, or as it came into the layer: that `entry`, or what the first sublayer's norm makes of it, `normed`,
    and then it has no norm of its own. What it makes is added onto the stream, or onto that entry.
    """

    name: str
    placement: Literal["pre", "post", "sublayer_output", "both", "none"]
    body: ReferenceAttention | ReferenceFeedForward
    reads: Literal["stream", "entry", "normed"] = "stream"
    onto: Literal["stream", "entry"] = "stream"
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceLayer:
    """One layer's sublayers, in their order, and where each group's parameters and norms are found.

    `prefixes` and `norms` are keyed by group. Groups no modality has may be left out. `modulations` are those of each
    sublayer, by its name and by modality.
    """

    sublayers: tuple[ReferenceSublayer, ...]
    prefixes: Mapping[str, Prefixes]
    norms: Mapping[str, Norms]
    modulations: Mapping[str, Mapping[str, ReferenceModulation]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceConfig:
    """A whole model. `own_vocabularies`: ids are local to each modality, and logits are one tensor per modality.

    `latents` and `features` are the continuous modalities: no embedding, no head, and ends or a projector of their own;
    features have no final norm either. `head` is None where it is tied to the embedding; `final_norm_prefixes` is empty
    where there is no final norm, and `embedding_norm_prefixes` where there is none of tokens before the first layer.

    `position_rules`, of the modalities in their order, say what positions are that are not given; with () from 0.

    `target_weights` are what each target of a modality weighs in the total, 1 if not named; a target of a modality in
    `unseen_only` does not count where the token before it sees it.

    Embeddings are multiplied with `embedding_scale`, logits with `logit_scale`; with a `logit_softcap` c logits become
    c tanh(logits / c).

    `conditions` are of modalities whose spans have one, `final_modulations` what those do after the last norm.
    """

    modalities: tuple[str, ...]
    own_vocabularies: bool
    layers: tuple[ReferenceLayer, ...]
    embedding: Prefixes
    head: Prefixes | None
    final_norm_prefixes: Prefixes
    final_norms: Norms
    embedding_norm_prefixes: Prefixes = field(default_factory=dict)
    embedding_norms: Norms = field(default_factory=dict)
    latents: Mapping[str, ReferenceLatent] = field(default_factory=dict)
    features: Mapping[str, ReferenceFeatures] = field(default_factory=dict)
    target_weights: Mapping[str, float] = field(default_factory=dict)
    unseen_only: tuple[str, ...] = ()
    embedding_scale: Mapping[str, float] = field(default_factory=dict)
    logit_scale: float = 1.0
    logit_softcap: float | None = None
    position_rules: tuple[ReferenceRule, ...] = ()
    first_position: int = 0
    position_axes: int = 1
    position_embedding: Prefixes = field(default_factory=dict)
    conditions: Mapping[str, ReferenceCondition] = field(default_factory=dict)
    final_modulations: Mapping[str, ReferenceModulation] = field(default_factory=dict)

    @property
    def continuous(self) -> frozenset[str]:
        """The modalities that have no ids."""
        return frozenset((*self.latents, *self.features))

    @property
    def masks(self) -> tuple[ReferenceMask, ...]:
        """The masks of all layers, each once."""
        masks = [body.mask for body in self._bodies() if isinstance(body, ReferenceAttention)]
        return tuple(mask for place, mask in enumerate(masks) if mask not in masks[:place])

    @property
    def is_balanced(self) -> bool:
        """Whether routers have a load-balancing loss, in some layer at least."""
        mixtures = [body.moe for body in self._bodies() if isinstance(body, ReferenceFeedForward)]
        return any(moe.balance for moes in mixtures for moe in moes.values())

    def _bodies(self) -> list[ReferenceAttention | ReferenceFeedForward]:
        return [sublayer.body for layer in self.layers for sublayer in layer.sublayers]
