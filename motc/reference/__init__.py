"""The hand-written reference: what a model means, in plain torch, knowing nothing of the compiler."""

from motc.reference.batch import Batch
from motc.reference.conditions import ReferenceCondition, ReferenceModulation, ReferenceSinusoids
from motc.reference.config import (
    ReferenceAttention,
    ReferenceConfig,
    ReferenceFeedForward,
    ReferenceLayer,
    ReferenceSublayer,
)
from motc.reference.experts import ReferenceChoice, ReferenceMoe, Trace
from motc.reference.features import ReferenceFeatures
from motc.reference.latents import ReferenceLatent, ReferenceNoising
from motc.reference.loss import ReferenceLoss, reference_loss
from motc.reference.model import reference_forward, reference_hidden, reference_predictions
from motc.reference.operators import ReferenceNorm
from motc.reference.positions import ReferenceRule, positions_by_rule
from motc.reference.rope import ReferenceRope, ReferenceScaling
from motc.reference.times import ReferenceTimes, drawn_times
from motc.reference.visibility import ReferenceMask

__all__ = [
    "Batch",
    "ReferenceAttention",
    "ReferenceChoice",
    "ReferenceCondition",
    "ReferenceConfig",
    "ReferenceFeatures",
    "ReferenceFeedForward",
    "ReferenceLatent",
    "ReferenceLayer",
    "ReferenceLoss",
    "ReferenceMask",
    "ReferenceModulation",
    "ReferenceMoe",
    "ReferenceNoising",
    "ReferenceNorm",
    "ReferenceRope",
    "ReferenceRule",
    "ReferenceScaling",
    "ReferenceSinusoids",
    "ReferenceSublayer",
    "ReferenceTimes",
    "Trace",
    "drawn_times",
    "positions_by_rule",
    "reference_forward",
    "reference_hidden",
    "reference_loss",
    "reference_predictions",
]
