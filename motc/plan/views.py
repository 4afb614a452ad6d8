"""Whether attention can do without a mask, in a few calls."""

from __future__ import annotations

from motc.ir.mask import Mask
from motc.ir.model import Model


def has_views(model: Model) -> bool:
    """Whether the model's attention goes part by part. Only rows that are one document each can be cut so."""
    return model.strategy == "sorted" and factors(model.segments[0].layer.attention.mask, len(model.modalities))


def view_gathers(model: Model) -> int:
    """How many gathers a layer's calls of attention make: their keys, values and queries where those are not all of a
    row, and the answers back.
    """
    if not has_views(model):
        return 0
    mask, names = model.segments[0].layer.attention.mask, {modality.name for modality in model.modalities}
    if mask.kind == "prefix":  # what follows the prefix is asked among all of the row
        return 3 + 1
    if mask.kind == "blocks":
        sets = [frozenset().union(*mask.blocks[: place + 1]) for place in range(len(mask.blocks))]
    else:
        said = dict(mask.sees)
        sets = [*{frozenset(said.get(name, names)) for name in names}]
    of_all = 0 if mask.kind == "causal" else 1
    return sum(of_all if seen == names else 3 for seen in sets) + 1


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
