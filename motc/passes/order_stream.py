"""Choose the parts of the residual stream.

    before   stream {text image speech}
             layers.*.ffn.up {text} {image speech}, layers.*.attention.q {text image speech}
    after    stream {text} {image speech}

The stream's partition is the meet of all layers' and the final norm's, so every part of it meets one copy of every
parameter, and parts are as few as that allows.
"""

from __future__ import annotations

from dataclasses import replace

from motc.ir.model import Leaf, Model
from motc.ir.partition import Partition


def order_stream(model: Model) -> Model:
    """The same model with `stream` set."""
    names = tuple(modality.name for modality in model.modalities)
    leaves = {leaf for segment in model.segments for leaf in segment.layer.leaves()}
    if model.final_norm:
        leaves.add(model.final_norm)
    partitions = {_complete(leaf, names) for leaf in leaves}
    kinds: dict[str, list[str]] = {}
    for name, kind in zip(names, model.segments[0].layer.ffn.kinds, strict=True):
        kinds.setdefault(kind, []).append(name)
    stream = Partition.of(names, kinds.values())
    for partition in partitions:
        stream = stream.meet(partition)
    return replace(model, stream=stream)


def _complete(leaf: Leaf, names: tuple[str, ...]) -> Partition:
    """The leaf's partition, the modalities it does not concern being a block of their own."""
    blocks = [block.modalities for block in leaf.blocks]
    rest = tuple(name for name in names if leaf.block_of(name) is None)
    return Partition.of(names, [*blocks, rest] if rest else blocks)
