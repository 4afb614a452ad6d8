"""Choose the order in which tokens are sorted by modality.

    before   order text image speech
             layers.*.ffn.up {text speech} {image}, layers.*.attention.q {text} {image} {speech}
    after    order text speech image

A leaf is applied once to each run of modalities that share a block, so the best order has the fewest runs. Where one
makes every block a single run, it is found; of equally good ones the order of declaration wins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations

from motc.ir.leaf import Leaf
from motc.ir.model import Model

FEW = 6  # modalities whose orders are all tried


def order_modalities(model: Model) -> Model:
    """The same model with `order` set."""
    leaves = Counter[Leaf](model.outer_leaves())
    for layer, count in model.kinds:
        leaves.update(dict.fromkeys(layer.leaves(), count))
    untied = {leaf: count for leaf, count in leaves.items() if len(leaf.blocks) > 1}

    def runs(order: tuple[str, ...]) -> int:
        return sum(len(leaf.runs(order)) * count for leaf, count in untied.items())

    return replace(model, order=min(_candidates(model, untied), key=runs))


def _candidates(model: Model, untied: dict[Leaf, int]) -> Iterator[tuple[str, ...]]:
    """The order of declaration, that of nested blocks, and if there are few modalities all others."""
    names = tuple(modality.name for modality in model.modalities)
    yield names
    if not untied:
        return
    coarse_first = sorted(untied, key=lambda leaf: len(leaf.blocks))
    indices = [_block_indices(leaf) for leaf in coarse_first]
    keys = {name: [index.get(name, -1) for index in indices] for name in names}
    yield tuple(sorted(names, key=keys.__getitem__))
    if len(names) <= FEW and any(len(leaf.runs(names)) > len(leaf.blocks) for leaf in untied):
        yield from permutations(names)


def _block_indices(leaf: Leaf) -> dict[str, int]:
    """The number of each modality's block, of those whom the leaf concerns."""
    return {name: index for index, block in enumerate(leaf.blocks) for name in block.modalities}
