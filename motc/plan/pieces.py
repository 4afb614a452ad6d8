"""How the stream is kept in pieces, where modalities differ in its width."""

from __future__ import annotations

from motc.ir.feed_forward import FeedForward, Mixture
from motc.ir.layer import Sublayer
from motc.ir.model import Model


def stream_is_in_pieces(model: Model) -> bool:
    """Whether the stream is no one tensor."""
    return len({modality.width for modality in model.modalities}) > 1


def counts_in_layers(model: Model) -> tuple[int, ...]:
    """How many modalities each piece of the stream holds in the layers, in the order they are sorted in.

    Those that follow one another and share all that layers have are one piece, where products are made by runs; outside
    the layers, and under other strategies, each is one of its own.
    """
    if model.execution.products != "runs":
        return (1,) * len(model.order)
    counts: list[int] = []
    before: object = None
    for name in model.order:
        shared = _of_modality(name, model)
        if shared == before:
            counts[-1] += 1
        else:
            counts.append(1)
        before = shared
    return tuple(counts)


def _of_modality(name: str, model: Model) -> object:
    """All that layers have for a modality."""
    sublayers = [sublayer for layer, _ in model.kinds for sublayer in layer.sublayers]
    width = next(modality.width for modality in model.modalities if modality.name == name)
    return (width, *(_of_sublayer(name, sublayer, model) for sublayer in sublayers))


def _of_sublayer(name: str, sublayer: Sublayer, model: Model) -> object:
    """What a sublayer has for a modality: its copies, and what is done between them."""
    place, body = model.names.index(name), sublayer.body
    kind = body.kinds[place] if isinstance(body, FeedForward | Mixture) else None
    moe = body.moe[place] if isinstance(body, Mixture) else None
    return (*(leaf.block_of(name) for leaf in sublayer.leaves()), kind, moe)
