"""Whether attention can do without a mask, in a few calls."""

from __future__ import annotations

from motc.ir.mask import Mask
from motc.ir.model import Model


def has_views(model: Model) -> bool:
    """Whether the model's attention goes part by part. Only rows that are one document each can be cut so."""
    return model.strategy == "sorted" and factors(model.segments[0].layer.attention.mask, len(model.modalities))


def factors(mask: Mask, modalities: int) -> bool:
    """Whether tokens see one of a few sets of tokens, each set wholly or all of it that came before.

    prefix                         the prefix sees itself, the others what came before
    blocks, full with `sees`       a call for each set of modalities that is seen
    causal with `sees`             the same, but a causal call has the keys of others for queries too: with more than
                                   two sets it may cost more than a mask, and is not done
    """
    if mask.is_plain or mask.bidirectional:
        return False
    if mask.kind == "prefix":
        return not mask.sees
    return mask.kind != "causal" or len({seen for _, seen in mask.sees}) + (len(mask.sees) < modalities) <= 2
