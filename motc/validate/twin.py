"""A model and its dense twin: which parameters correspond, or why none do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from motc.ir.layer import Layer
from motc.ir.leaf import Block, Leaf
from motc.ir.model import Model
from motc.ir.names import parameter_prefix
from motc.ir.operators import Condition, LatentEnds, Modulation, Operator, Projector


def twin_mismatch(sparse: Model, dense: Model) -> str | None:
    """Why the twin's parameters do not fit the model's blocks (towers of other shapes, kinds or norms), or None."""
    if [modality.name for modality in sparse.modalities] != [modality.name for modality in dense.modalities]:
        return "the modalities differ"
    if sparse.layers != dense.layers:
        return "the numbers of layers differ"
    for index in range(sparse.layers):
        if layer_at(sparse, index).settings != layer_at(dense, index).settings:
            return f"layer {index}: its FFN's kind or experts, mask, placement or heads differ from the dense twin's"
    for layer, path, ours, theirs in _leaves(sparse, dense):
        where = path if layer is None else f"layers.{layer}.{path}"
        for modality in (modality.name for modality in sparse.modalities):
            block, twin = _block(ours, modality), _block(theirs, modality)
            if _held(block) != _held(twin):
                return f"{where}: {modality} has another shape, kind or bias than the dense twin"
            chooses = layer is not None and _choose(sparse, layer, path, modality)
            if block and twin and chooses and block.modalities != twin.modalities:
                return f"{where}: experts choose among other tokens than in the dense twin"
            if block and twin and not set(block.modalities) <= set(twin.modalities):
                return f"{where}: the dense twin separates {', '.join(block.modalities)}"
    return None


def twin_prefixes(sparse: Model, dense: Model) -> dict[str, str]:
    """Prefix of each block's parameters to the prefix of the dense twin's. Requires that `twin_mismatch` is None."""
    prefixes: dict[str, str] = {}
    for layer, _, ours, theirs in _leaves(sparse, dense):
        for block in ours.blocks if ours else ():
            if ours and theirs and (twin := theirs.block_of(block.modalities[0])):
                prefix, other = parameter_prefix(ours, block, layer), parameter_prefix(theirs, twin, layer)
                prefixes[prefix] = other
                if isinstance(block.operator, LatentEnds | Projector | Condition | Modulation):
                    inner = {name.rpartition(".")[0] for name in block.operator.shapes()}
                    prefixes |= {f"{prefix}.{name}": f"{other}.{name}" for name in inner if name}
                if isinstance(block.operator, Condition) and isinstance(twin.operator, Condition):
                    prefixes |= _shared_prefixes(prefix, block.operator, other, twin.operator)
    return prefixes


def _held(block: Block | None) -> Operator | None:
    """What a block holds, of a condition without how many copies there are of the maps that layers share."""
    operator = None if block is None else block.operator
    if not isinstance(operator, Condition):
        return operator
    return replace(operator, shared=tuple(dict.fromkeys(replace(maps, copy="") for maps in operator.shared)))


def _shared_prefixes(prefix: str, ours: Condition, other: str, theirs: Condition) -> dict[str, str]:
    """Of each copy of shared maps the one of the twin, by the prefixes of their parameters."""
    twins = {(maps.name, maps.role): maps.path for maps in theirs.shared}
    return {
        f"{prefix}.shared.{maps.path}.{part}": f"{other}.shared.{twins[maps.name, maps.role]}.{part}"
        for maps in ours.shared
        for part in maps.modulation.parts
    }


def layer_at(model: Model, index: int) -> Layer:
    """The layer of this number."""
    return next(segment.layer for segment in model.segments if segment.first <= index <= segment.last)


def _leaves(sparse: Model, dense: Model) -> Iterator[tuple[int | None, str, Leaf | None, Leaf | None]]:
    """Layer number (None outside the layers), path, and the leaf of that path in each model."""
    yield from _paired(None, sparse.outer_leaves(), dense.outer_leaves())
    for index in range(sparse.layers):
        yield from _paired(index, layer_at(sparse, index).leaves(), layer_at(dense, index).leaves())


def _paired(
    layer: int | None, ours: tuple[Leaf, ...], theirs: tuple[Leaf, ...]
) -> Iterator[tuple[int | None, str, Leaf | None, Leaf | None]]:
    mine, other = {leaf.path: leaf for leaf in ours}, {leaf.path: leaf for leaf in theirs}
    for path in dict.fromkeys((*mine, *other)):
        yield layer, path, mine.get(path), other.get(path)


def _choose(model: Model, layer: int, router: str, modality: str) -> bool:
    """Whether experts choose a modality's tokens in a layer."""
    mixtures = (m.by_modality(model.names) for m in layer_at(model, layer).mixtures if m.router.path == router)
    return any(modality in moe and moe[modality].routing == "expert_choice" for moe in mixtures)


def _block(leaf: Leaf | None, modality: str) -> Block | None:
    return leaf.block_of(modality) if leaf else None
