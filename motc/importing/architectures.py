"""The table: for each class of transformers and diffusers what its configuration's keys are in a spec.

A key that is in no row of its class is refused, unless it is known to change nothing. Defaults are those of the class,
which it takes where a key is missing; what is always so is in `settings`. Rows are read in order, and those of
classes that have no encoder are written back.
"""

from __future__ import annotations

from motc.importing.block_denoisers import BLOCK_DENOISERS
from motc.importing.further_mixtures import FURTHER_MIXTURES
from motc.importing.further_models import FURTHER_MODELS
from motc.importing.joint_denoisers import JOINT_DENOISERS
from motc.importing.language_models import LANGUAGE_MODELS
from motc.importing.low_rank import LOW_RANK_MODELS
from motc.importing.refining_denoisers import REFINING_DENOISERS
from motc.importing.robots import ROBOTS
from motc.importing.with_images import WITH_IMAGES

DENOISERS = (*JOINT_DENOISERS, *BLOCK_DENOISERS, *REFINING_DENOISERS)
"""Classes of diffusers, which predict what a latent is made of."""

ARCHITECTURES = (
    *LANGUAGE_MODELS,
    *FURTHER_MODELS,
    *FURTHER_MIXTURES,
    *LOW_RANK_MODELS,
    *WITH_IMAGES,
    *ROBOTS,
    *DENOISERS,
)

BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
