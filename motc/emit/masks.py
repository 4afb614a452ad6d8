"""Masks as text: as what reads them in a generated file takes them."""

from __future__ import annotations

from typing import Any

from motc.ir.mask import Mask
from motc.ir.model import Model


def mask_arguments(mask: Mask, names: tuple[str, ...]) -> dict[str, Any]:
    """A mask as `visibility` takes it, modalities by their ids; what is empty is left out."""

    def ids(group: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(names.index(name) for name in group)

    said = dict(mask.sees)
    found = {
        "kind": mask.kind,
        "prefix": ids(mask.prefix),
        "bidirectional": ids(mask.bidirectional),
        "blocks": tuple(ids(block) for block in mask.blocks),
        "sees": tuple(tuple(seen in said.get(name, names) for seen in names) for name in names) if said else (),
    }
    return {key: value for key, value in found.items() if value}


def mask_literal(model: Model) -> str:
    """The mask of all layers, as a dict of the arguments of `visibility`."""
    arguments = mask_arguments(model.mask, tuple(modality.name for modality in model.modalities))
    kind, rest = arguments.pop("kind"), "".join(f', "{key}": {value!r}' for key, value in arguments.items())
    return f'{{"kind": "{kind}"{rest}}}'
