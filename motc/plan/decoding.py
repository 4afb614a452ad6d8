"""What generating needs to know: whether the mask lets it be, and which modalities go through the same parameters."""

from __future__ import annotations

from motc.ir.model import Model


def can_generate(model: Model) -> bool:
    """Whether a token can be added without changing what those before it see, unless its modality forbids it.

    Experts that choose their tokens would choose others.
    """
    return "expert_choice" not in model.routings and all(mask.is_decodable for mask in model.masks)


def decode_towers(model: Model) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Groups of modalities that share all parameters of the layers and the final norm, each with a name.

    The name is that of their copies where all have the same, else that of the first modality.
    """
    leaves = [leaf for layer, _ in model.kinds() for leaf in layer.leaves()]
    leaves += [model.final_norm] if model.final_norm else []
    groups: dict[tuple[str | None, ...], list[str]] = {}
    names: dict[tuple[str | None, ...], set[str]] = {}
    for modality in model.order:
        blocks = [leaf.block_of(modality) for leaf in leaves]
        key = tuple(None if block is None else block.name for block in blocks)
        groups.setdefault(key, []).append(modality)
        names[key] = {name for name in key if name}
    called = [next(iter(names[key])) if len(names[key]) == 1 else group[0] for key, group in groups.items()]
    if len(set(called)) < len(called):
        called = [group[0] for group in groups.values()]
    return tuple((name, tuple(group)) for name, group in zip(called, groups.values(), strict=True))
