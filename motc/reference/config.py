"""What a model consists of, and where each modality's parameters are found by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from motc.reference.experts import ReferenceMoe
from motc.reference.latents import ReferenceLatent
from motc.reference.operators import FfnKind, NormKind
from motc.reference.visibility import ReferenceMask

Prefixes = Mapping[str, str]
"""Modality to the prefix of its parameters' names; a modality that lacks the group is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceNorm:
    """What a norm computes; its weight (and bias) are looked up by name."""

    kind: NormKind
    eps: float


Norms = Mapping[str, ReferenceNorm]
"""Modality to its norm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceLayer:
    """One layer's settings, the kind of each modality's FFN, and where each group's parameters and norms are found.

    `prefixes` and `norms` are keyed by group: attention.q, .k, .v, .out, .q_norm, .k_norm, .norm, ffn.gate, .up, .down,
    .router, .shared.gate, .shared.up, .shared.down, .norm.
    Groups no modality has may be left out. Modalities that have one router choose, or are chosen from,
    together; `moe` is that of those who have one.
    """

    placement: Literal["pre", "post", "sublayer_output"]
    heads: int
    kv_heads: int
    head_dim: int
    mask: ReferenceMask
    rope_theta: float | None
    rope_pairing: Literal["half", "interleaved"] = "half"
    ffn_kinds: Mapping[str, FfnKind]
    prefixes: Mapping[str, Prefixes]
    norms: Mapping[str, Norms]
    moe: Mapping[str, ReferenceMoe] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceConfig:
    """A whole model. `own_vocabularies`: ids are local to each modality, and logits are one tensor per modality.

    `latents` are the continuous modalities: no embedding, no head, and ends of their own. `head` is None where it is
    tied to the embedding; `final_norm_prefixes` is empty where there is no final norm.

    `target_weights` are what each target of a modality weighs in the total, 1 if not named; a target of a modality in
    `unseen_only` does not count where the token before it sees it.
    """

    modalities: tuple[str, ...]
    own_vocabularies: bool
    layers: tuple[ReferenceLayer, ...]
    embedding: Prefixes
    head: Prefixes | None
    final_norm_prefixes: Prefixes
    final_norms: Norms
    latents: Mapping[str, ReferenceLatent] = field(default_factory=dict)
    target_weights: Mapping[str, float] = field(default_factory=dict)
    unseen_only: tuple[str, ...] = ()
