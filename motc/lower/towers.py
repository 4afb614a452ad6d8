"""The towers of a spec, and the heads in which they all meet."""

from __future__ import annotations

from motc.ir.partition import Partition
from motc.lower.attributes import heads_of, norm_place, rotated_head
from motc.lower.low_rank import check_low_rank
from motc.lower.rope import check_rope
from motc.schema import Checked
from motc.source import Diagnostic, Span
from motc.source.nearest import suggestion


def lower_towers(
    checked: Checked, errors: list[Diagnostic]
) -> tuple[Partition, dict[tuple[str, ...], str], dict[str, str]]:
    """The towers' partition, the name of each block, and of each modality's tower. Appends to `errors`."""
    names = tuple(checked.spec.modalities)
    owner: dict[str, str] = {}
    for tower_name, tower in checked.spec.towers.items():
        for index, modality in enumerate(tower.modalities):
            span = checked.span("towers", tower_name, "modalities", index)
            if modality not in names:
                way_out = suggestion(modality, names, f"modalities: {', '.join(names)}")
                errors.append(Diagnostic(code="MOT044", message=f"no modality `{modality}`", span=span, help=way_out))
            elif modality in owner:
                message = f"`{modality}` is in tower {tower_name} twice"
                related: tuple[tuple[str, Span], ...] = ()
                if owner[modality] != tower_name:
                    message = f"`{modality}` is in two towers: {owner[modality]} and {tower_name}"
                    related = (("the other one", checked.span("towers", owner[modality])),)
                errors.append(
                    Diagnostic(code="MOT045", message=message, span=span, help="keep it in one", related=related)
                )
            else:
                owner[modality] = tower_name
    blocks = {modality: owner.get(modality, modality) for modality in names}
    for modality in names:
        if modality not in owner and modality in checked.spec.towers:
            message = f"tower `{modality}` has the name of a modality that is not in it"
            span = checked.span("towers", modality)
            errors.append(Diagnostic(code="MOT045", message=message, span=span, help="rename the tower"))
            return Partition.each(names), {}, {}
    grouped: dict[str, list[str]] = {}
    for modality, tower_name in blocks.items():
        grouped.setdefault(tower_name, []).append(modality)
    tower_names = {tuple(block): tower_name for tower_name, block in grouped.items()}
    return Partition.of(names, grouped.values()), tower_names, blocks


def check_heads(checked: Checked, errors: list[Diagnostic]) -> None:
    """Whether heads can be shared, have a size, and can be rotated; and are the same in all towers."""
    spec = checked.spec
    heads, kv_heads, _ = heads_of(spec)
    if heads % kv_heads:
        message = f"{heads} heads cannot share {kv_heads} kv_heads evenly"
        span = checked.span("attention", "kv_heads")
        errors.append(Diagnostic(code="MOT050", message=message, span=span, help="kv_heads must divide heads"))
    if spec.attention.head_dim is None and spec.width % heads:
        message = f"width {spec.width} is not a multiple of {heads} heads"
        related = (("the width", checked.span("width")),)
        way_out = "change either, or give head_dim"
        span = checked.span("attention", "heads")
        errors.append(Diagnostic(code="MOT051", message=message, span=span, help=way_out, related=related))
    check_low_rank(checked, errors)
    check_rope(checked, rotated_head(spec), errors)
    _check_tower_heads(checked, errors)


def _check_tower_heads(checked: Checked, errors: list[Diagnostic]) -> None:
    """All towers meet in one attention: a tower may repeat what heads and scores are, and not change it."""
    heads, kv_heads, head_dim = heads_of(checked.spec)
    attention = checked.spec.attention
    scale = head_dim**-0.5 if attention.scale is None else attention.scale
    scores = {"scale": scale, "softcap": attention.softcap, "clip": attention.clip}
    sizes = {"head_dim": head_dim, "value_dim": attention.value_dim or head_dim}
    models = {"heads": heads, "kv_heads": kv_heads, **sizes, **scores}
    place = norm_place(checked.spec)
    for name, tower in checked.spec.towers.items():
        norm = tower.attention.qk_norm
        if norm is not None and norm.place != place:
            message = f"tower {name} has its qk_norm {norm.place}, another {place}; all towers meet in one attention"
            span = checked.span("towers", name, "attention", "qk_norm", "place")
            way_out = "give all norms of queries and keys one place"
            errors.append(Diagnostic(code="MOT053", message=message, span=span, help=way_out))
        said_keys = tower.attention.said()
        for key, meant in models.items():
            said = said_keys.get(key, meant)
            if said == meant:
                continue
            said, meant = ("none" if value is None else f"{value:g}" for value in (said, meant))
            message = f"tower {name} has {key} {said}, the model {meant}; all towers meet in one attention"
            span = checked.span("towers", name, "attention", key)
            related = (("the model's", checked.span("attention", key)),)
            way_out = f"leave `{key}` out of the tower, or give all the same; a tower's width may differ"
            errors.append(Diagnostic(code="MOT053", message=message, span=span, help=way_out, related=related))
