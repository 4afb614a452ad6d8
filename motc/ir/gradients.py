"""Modalities whose gradients are 0, which a backward need not compute."""

from __future__ import annotations

from motc.ir.layer import Layer
from motc.ir.model import Model


def without_gradient(model: Model) -> dict[int, frozenset[str]]:
    """Of each kind of layer, by its identity, the modalities whose states there no loss depends on with a gradient.

    Nothing is predicted of features. So theirs have none in the last layers as long as all that see them there read
    them detached, or are such modalities themselves; nor in those before, as long as the same holds.
    """
    untrained = frozenset(modality.name for modality in model.feature_modalities())
    found: dict[int, frozenset[str]] = {}
    settled = set()
    for layer in (segment.layer for segment in reversed(model.segments)):
        while (id(layer), untrained) not in settled:
            settled.add((id(layer), untrained))
            untrained -= _learnt(layer, model.names, untrained)
        found[id(layer)] = untrained & found.get(id(layer), untrained)
    return found


def _learnt(layer: Layer, names: tuple[str, ...], untrained: frozenset[str]) -> set[str]:
    """The modalities that a layer gives gradients to, if `untrained` have none behind it: read, or kept in balance."""
    learnt = set()
    for mixture in layer.mixtures:
        learnt |= {name for name, moe in mixture.by_modality(names).items() if moe.balance}
    for attention in layer.attentions:
        mask = attention.mask
        reads, detached = dict(mask.reads), dict(mask.detach)
        for name, visible in mask.visible(names).items():
            if name not in untrained:
                seen = reads.get(name, tuple(other for other in visible if other not in reads))
                learnt |= {*seen} - {*detached.get(name, ())}
    return learnt
