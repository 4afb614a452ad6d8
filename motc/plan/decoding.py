"""What generating needs to know: whether the mask lets it be, and which modalities go through the same parameters."""

from __future__ import annotations

from motc.ir.model import Model
from motc.plan.mixture import counts_within


def can_generate(model: Model) -> bool:
    """Whether a token can be added without changing what those before it see, unless its modality forbids it.

    Experts that choose their tokens would choose others.
    """
    return "expert_choice" not in model.routings and all(mask.is_decodable for mask in model.masks)


def last_block(model: Model) -> tuple[str, ...]:
    """The modalities that a model can make of all that is before: those of its masks' last block, if all have latents.

    None where masks are no blocks, or end in different ones.
    """
    ends = {mask.blocks[-1] if mask.kind == "blocks" else () for mask in model.masks}
    if "expert_choice" in model.routings or len(ends) != 1:
        return ()
    (last,) = ends
    latents = [modality.name for modality in model.latent_modalities()]
    return last if all(name in latents for name in last) else ()


def alike(model: Model) -> tuple[int, ...]:
    """For each modality, in the order of their declaration, the place of the first in `model.order` whose parameters
    are all the same. Empty where text names pieces one by one, which a step of one modality does not have.
    """
    in_pieces = len({modality.width for modality in model.modalities}) > 1
    mixtures = (mixture for layer, _ in model.kinds for mixture in layer.mixtures)
    if any(counts_within(mixture, model) != (len(model.order),) for mixture in mixtures):
        return ()
    if in_pieces and model.continuous_modalities():
        return ()
    leaves = [leaf for layer, _ in model.kinds for leaf in layer.leaves()] + list(model.outer_leaves())
    copies = {name: tuple(leaf.block_of(name) for leaf in leaves) for name in model.order}
    each = [copies[name] for name in model.order]
    return tuple(each.index(copies[modality.name]) for modality in model.modalities)
