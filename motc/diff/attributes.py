"""Edits of attributes: one is changed at a time, and its edit has the parameters and FLOPs which that change adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from motc.diff.edit import Edit
from motc.diff.facts import Facts, Stretch
from motc.ir.latent import LatentEnds

SUBJECTS = {
    "width": "width",
    "heads": "attention.heads",
    "kv_heads": "attention.kv_heads",
    "head_dim": "attention.head_dim",
    "attention_bias": "attention.bias",
    "out_bias": "attention.out_bias",
    "qk_norm": "attention.qk_norm",
    "qk_norm_eps": "attention.qk_norm_eps",
    "mask": "attention.mask",
    "rope": "attention.rope",
    "rope_theta": "attention.rope.theta",
    "rope_pairing": "attention.rope.pairing",
    "ffn_kind": "ffn.kind",
    "moe": "ffn.experts",
    "hidden": "ffn.hidden",
    "ffn_bias": "ffn.bias",
    "norm_kind": "norm.kind",
    "norm_eps": "norm.eps",
    "placement": "norm.placement",
    "vocab": "vocab",
    "latent": "latent",
    "objective": "latent.objective",
    "weight": "latent.weight",
    "target_weight": "weight",
    "seen_targets": "seen_targets",
    "tied": "embedding.tied",
    "norm_final": "norm.final",
}


def attribute_edits(start: Stretch, goal: Stretch, layers: tuple[int, int] | None) -> list[Edit]:
    """What turns the attributes of `start` into those of `goal`; both have the same modalities and blocks."""
    edits = []
    current, everyone = start, tuple(goal.attributes)
    for name in SUBJECTS:
        changes: dict[tuple[Any, Any], list[str]] = {}
        for modality in everyone:
            before, after = (getattr(stretch.attributes[modality], name, None) for stretch in (start, goal))
            if before != after:
                changes.setdefault((before, after), []).append(modality)
        for (before, after), modalities in changes.items():
            changed: Mapping[str, Facts] = {
                modality: replace(attributes, **{name: after}) if modality in modalities else attributes
                for modality, attributes in current.attributes.items()
            }
            following = replace(current, attributes=changed)
            if _is_told(name, before, after):
                flops_before, flops_after = current.flops(), following.flops()
                edits.append(
                    Edit(
                        kind="~",
                        subject=SUBJECTS[name],
                        before=_text(name, before),
                        after=_text(name, after),
                        layers=layers,
                        modalities=() if len(modalities) == len(everyone) else tuple(modalities),
                        parameters=following.parameters() - current.parameters(),
                        flops={modality: flops_after[modality] - flops_before[modality] for modality in everyone},
                    )
                )
            current = following
    return edits


def _is_told(name: str, before: Any, after: Any) -> bool:
    """Whether a change has an edit of its own: theta, pairing and eps go along where rope or a norm comes or goes."""
    match name:
        case "rope":
            return before is None or after is None
        case "latent":  # its width is the modality's, which is told as such
            return _text(name, before) != _text(name, after)
        case "rope_theta" | "rope_pairing" | "objective" | "weight" | "target_weight" | "seen_targets":
            return before is not None and after is not None
        case "qk_norm_eps":
            return 0.0 not in (before, after)
        case _:
            return True


def _text(name: str, value: Any) -> str:
    match name:
        case "vocab":
            if value is None:
                return "none"
            size, own = value
            return f"{size} of its own" if own else f"{size} shared"
        case "latent":
            return "none" if value is None else _latent(value)
        case _:
            return _plain(value)


def _latent(ends: LatentEnds) -> str:
    inside = f" ({ends.unet.channels} channels, {ends.unet.blocks} blocks)" if ends.unet else ""
    return f"{ends.kind}{inside}, {ends.channels} channels in patches of {ends.patch}"


def _plain(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:g}" if float(f"{value:g}") == value else repr(value)
        case _:
            return str(value)
