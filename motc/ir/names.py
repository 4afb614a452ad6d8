"""Parameter names: a contract with checkpoints, changed by no pass, strategy or fusion."""

from __future__ import annotations

from motc.ir.leaf import Block, Leaf


def parameter_prefix(leaf: Leaf, block: Block, layer: int | None) -> str:
    """The name of a block's parameters without the last `.weight` or `.bias`.

    `layers.3.attention.q.image`, `layers.3.ffn.down` (one block for all modalities), `embedding.text`.
    """
    parts = [] if layer is None else ["layers", str(layer)]
    parts.append(leaf.path)
    if block.name:
        parts.append(block.name)
    return ".".join(parts)
