"""Parameter names: a contract with checkpoints, changed by no pass, strategy or fusion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motc.ir.leaf import Block, Leaf

if TYPE_CHECKING:
    from motc.ir.model import Model


def parameter_prefix(leaf: Leaf, block: Block, layer: int | None) -> str:
    """The name of a block's parameters without the last `.weight` or `.bias`.

    `layers.3.attention.q.image`, `layers.3.ffn.down` (one block for all modalities), `embedding.text`.
    """
    parts = [] if layer is None else ["layers", str(layer)]
    parts.append(leaf.path)
    if block.name:
        parts.append(block.name)
    return ".".join(parts)


def parameter_shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """Every parameter's name and shape."""
    leaves = [(leaf, None) for leaf in model.outer_leaves()] + [
        (leaf, index)
        for segment in model.segments
        for index in range(segment.first, segment.last + 1)
        for leaf in segment.layer.leaves()
    ]
    shapes: dict[str, tuple[int, ...]] = {}
    for leaf, layer in leaves:
        for block in leaf.blocks:
            prefix = parameter_prefix(leaf, block, layer)
            shapes |= {f"{prefix}.{name}": shape for name, shape in block.operator.shapes().items()}
    return shapes


def correction_shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """Every buffer that is saved with the model, the corrections of routers, and its shape."""
    shapes: dict[str, tuple[int, ...]] = {}
    for segment in model.segments:
        for mixture in segment.layer.mixtures:
            by_modality = mixture.by_modality(model.names)
            for block in mixture.router.blocks:
                moe = by_modality[block.modalities[0]]
                if moe.choice.corrected:
                    for layer in range(segment.first, segment.last + 1):
                        prefix = parameter_prefix(mixture.router, block, layer)
                        shapes[f"{prefix}.correction"] = (moe.experts,)
    return shapes


def saved_shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """All that weights of the model hold, and its shape."""
    return parameter_shapes(model) | correction_shapes(model)
