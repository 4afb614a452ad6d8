"""What a diff compares, for each run of equal layers and outside the layers: blocks by leaf, attributes by modality.

A leaf's operators follow from the attributes, so a stretch's parameters can be counted for any mixture of one model's
blocks and another's attributes: that is how a difference is split among its causes without remainder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from motc.ir.attributes import LayerAttributes, OuterAttributes, layer_attributes, outer_attributes
from motc.ir.inventory import LAYER_GROUPS, OUTER_GROUPS
from motc.ir.layer import Layer
from motc.ir.leaf import Leaf
from motc.ir.mask import Mask
from motc.ir.model import LatentModality, Model
from motc.ir.operators import Embedding, Operator

Blocks = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFacts(LayerAttributes):
    """What a layer is to one modality: the attributes its parameters follow from, and all else that can differ."""

    settings: Mapping[str, Any]

    def operators(self) -> dict[str, Operator]:
        """Each leaf of the layer that concerns the modality."""
        return {group.path: held for group in LAYER_GROUPS if (held := group.operator(self)) is not None}

    def flops(self) -> int:
        """The matrix products of one token."""
        return sum(operator.flops for operator in self.operators().values()) + self.read_flops


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterFacts(OuterAttributes):
    """What is outside the layers, to one modality: attributes its parameters follow from, and all else that can differ.

    `seen_targets` is None where the mask shows no token its target.
    """

    objective: str | None
    times: str | None
    weighting: str | None
    weight: float | None
    target_weight: float | None
    positions: str
    first_position: int
    seen_targets: bool | None
    logit_scale: float
    logit_softcap: float | None

    def operators(self) -> dict[str, Operator]:
        """Each leaf outside the layers that concerns the modality."""
        return {group.path: held for group in OUTER_GROUPS if (held := group.operator(self)) is not None}

    def flops(self) -> int:
        """The head's product for one token, tied or not; or those of a latent's ends, or of a feature's projector."""
        operators = self.operators()
        embedding = operators.get("embedding")
        flops = sum(operators[path].flops for path in ("latents", "features") if path in operators)
        return flops + embedding.head_flops if isinstance(embedding, Embedding) else flops


Facts = LayerFacts | OuterFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A run of `count` equal layers, or what is outside the layers.

    It has blocks and their names by leaf, and attributes by modality.
    """

    count: int
    blocks: Mapping[str, Blocks]
    names: Mapping[tuple[str, tuple[str, ...]], str]
    attributes: Mapping[str, Facts]

    def leaf_parameters(self) -> dict[str, int]:
        """The parameters of each leaf.

        A block's size is the largest one its modalities ask for; in a valid model they all ask for the same.
        """
        asked = {
            key: {path: operator.parameters for path, operator in attributes.operators().items()}
            for key, attributes in self._distinct().items()
        }
        key_of = {modality: id(attributes) for modality, attributes in self.attributes.items()}
        return {
            path: self.count
            * sum(max(asked[key].get(path, 0) for key in {key_of[modality] for modality in block}) for block in blocks)
            for path, blocks in self.blocks.items()
        }

    def parameters(self) -> int:
        """All parameters."""
        return sum(self.leaf_parameters().values())

    def flops(self) -> dict[str, int]:
        """The matrix products of one token, by modality."""
        each = {key: self.count * attributes.flops() for key, attributes in self._distinct().items()}
        return {modality: each[id(attributes)] for modality, attributes in self.attributes.items()}

    def _distinct(self) -> dict[int, Facts]:
        """The attributes by id, each object once: of many modalities most share theirs."""
        return {id(attributes): attributes for attributes in self.attributes.values()}

    def only(self, modalities: tuple[str, ...]) -> Stretch:
        """This stretch without the other modalities, and without the blocks that no modality is left in."""
        names = set(modalities)
        left = {
            path: tuple(kept for block in blocks if (kept := tuple(name for name in block if name in names)))
            for path, blocks in self.blocks.items()
        }
        attributes = {name: self.attributes[name] for name in modalities if name in self.attributes}
        return replace(self, blocks={path: blocks for path, blocks in left.items() if blocks}, attributes=attributes)


def layer_stretch(model: Model, layer: Layer, count: int, renamed: Mapping[str, str]) -> Stretch:
    """`count` layers like `layer`, with modalities called as `renamed` has it."""
    settings = {
        key: str(value.renamed(renamed)) if isinstance(value, Mask) else value for key, value in layer.settings.items()
    }
    attributes_of = layer_attributes(layer, model.modalities)
    facts = {each: LayerFacts(**_fields(each), settings=settings) for each in dict.fromkeys(attributes_of.values())}
    attributes = {renamed.get(name, name): facts[each] for name, each in attributes_of.items()}
    return _stretch(count, layer.leaves(), attributes, renamed)


def outer_stretch(model: Model, renamed: Mapping[str, str]) -> Stretch:
    """Embedding, final norm and head, with modalities called as `renamed` has it."""
    each = outer_attributes(model)
    attributes: dict[str, Facts] = {}
    for modality in model.modalities:
        latent = modality if isinstance(modality, LatentModality) else None
        attributes[renamed.get(modality.name, modality.name)] = OuterFacts(
            **_fields(each[modality.name]),
            objective=None if latent is None else latent.learnt,
            times=None if latent is None else str(latent.times),
            weighting=None if latent is None else str(latent.weighting or "even"),
            weight=None if latent is None else latent.weight,
            target_weight=None if each[modality.name].vocab is None else modality.loss.weight,
            positions="consecutive" if modality.positions is None else str(modality.positions),
            first_position=model.first_position,
            seen_targets=modality.loss.seen_targets,
            logit_scale=model.logit_scale,
            logit_softcap=model.logit_softcap,
        )
    return _stretch(1, model.outer_leaves(), attributes, renamed)


def _fields(attributes: LayerAttributes | OuterAttributes) -> dict[str, Any]:
    return {field.name: getattr(attributes, field.name) for field in fields(attributes)}


def _stretch(
    count: int, leaves: tuple[Leaf, ...], attributes: Mapping[str, Facts], renamed: Mapping[str, str]
) -> Stretch:
    blocks: dict[str, Blocks] = {}
    names: dict[tuple[str, tuple[str, ...]], str] = {}
    rank = {name: place for place, name in enumerate(attributes)}
    for leaf in leaves:
        groups: list[tuple[str, ...]] = []
        for block in leaf.blocks:
            declared = sorted(block.modalities, key=lambda name: rank[renamed.get(name, name)])
            members = tuple(renamed.get(name, name) for name in declared)
            groups.append(members)
            # A name made of its modalities' names follows them when they are renamed.
            default = block.name == "_".join(declared)
            names[leaf.path, tuple(sorted(members))] = "_".join(members) if default else block.name
        blocks[leaf.path] = tuple(groups)
    return Stretch(count=count, blocks=blocks, names=names, attributes=attributes)
