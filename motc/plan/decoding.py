"""What generating needs to know: whether the mask lets it be, and which modalities go through the same parameters."""

from __future__ import annotations

from typing import assert_never

from motc.ir.mask import Mask
from motc.ir.model import Model
from motc.plan.pieces import stream_is_in_pieces


def can_generate(model: Model) -> bool:
    """Whether a token can be added without changing what those before it see, unless its modality forbids it.

    Experts that choose their tokens would choose others. Tokens that read others have positions from the first of them,
    which a step does not see; those that attend to features have none, and no feature is generated (beside latents,
    which are generated at once, nobody has asked for it).
    """
    if not model.speaks:
        return False
    features = {modality.name for modality in model.feature_modalities()}

    def can_be_added(mask: Mask) -> bool:
        if mask.crosses:
            return not model.latents() and features.issuperset(name for _, read in mask.reads for name in read)
        return mask.is_decodable and not mask.reads

    can = "expert_choice" not in model.routings and all(map(can_be_added, model.masks))
    return can and _knows_conditions(model)


def _knows_conditions(model: Model) -> bool:
    """Whether each token's condition is known when it is computed: that of its own span, and not of a later one."""
    return all(name == by for name, by in model.conditioned_by.items())


def last_block(model: Model) -> tuple[str, ...]:
    """The modalities that a model can make of all that is before: those of its masks' last block, if all have latents.

    Where tokens read others, which no other token sees, it is those in other masks too: the latents that no token
    before them sees. None where masks end in different ones, or others read.
    """
    latents = tuple(modality.name for modality in model.latent_modalities())
    readers = {name for mask in model.masks for name in mask.readers}
    ends = {_last(mask, latents if readers else ()) for mask in model.masks}
    if "expert_choice" in model.routings or len(ends) != 1 or not model.speaks:
        return ()
    (last,) = ends
    can = all(name in latents for name in last) and readers <= set(last) and _knows_conditions(model)
    return last if can else ()


def _last(mask: Mask, latents: tuple[str, ...]) -> tuple[str, ...]:
    """The modalities of a mask's last block, or of these latents the ones that no token before them sees."""
    match mask.kind:
        case "blocks":
            return mask.blocks[-1]
        case "causal" | "prefix":
            together = {*mask.prefix, *(mask.in_runs if mask.delimiters else (n for run in mask.runs for n in run))}
            return tuple(name for name in latents if name not in together)
        case "full":
            return ()
        case _:
            assert_never(mask.kind)


def alike(model: Model) -> tuple[int, ...]:
    """For each modality, in the order of their declaration, the place of the first in `model.order` whose parameters
    are all the same. Empty where nothing is generated, and where experts are among pieces of several widths, of which
    text names each one.
    """
    generates = can_generate(model) or bool(last_block(model))
    if not generates or (stream_is_in_pieces(model) and model.routings):
        return ()
    leaves = [leaf for layer, _ in model.kinds for leaf in layer.leaves()] + list(model.outer_leaves())
    copies = {name: tuple(leaf.block_of(name) for leaf in leaves) for name in model.order}
    each = [copies[name] for name in model.order]
    return tuple(each.index(copies[modality.name]) for modality in model.modalities)
