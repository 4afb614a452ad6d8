"""The hand-written reference: what a model means, in plain torch, knowing nothing of the compiler."""

from motc.reference.batch import Batch
from motc.reference.config import ReferenceConfig, ReferenceLayer, ReferenceNorm
from motc.reference.experts import ReferenceMoe, Trace
from motc.reference.latents import ReferenceLatent
from motc.reference.loss import ReferenceLoss, reference_loss
from motc.reference.model import reference_forward, reference_hidden, reference_predictions
from motc.reference.visibility import ReferenceMask

__all__ = [
    "Batch",
    "ReferenceConfig",
    "ReferenceLatent",
    "ReferenceLayer",
    "ReferenceLoss",
    "ReferenceMask",
    "ReferenceMoe",
    "ReferenceNorm",
    "Trace",
    "reference_forward",
    "reference_hidden",
    "reference_loss",
    "reference_predictions",
]
