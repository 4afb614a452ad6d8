"""Edits of attributes: one is changed at a time, and its edit has the parameters and FLOPs which that change adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, assert_never

from motc.diff.edit import Edit
from motc.diff.facts import Facts, LayerFacts, OuterFacts, Stretch
from motc.ir.latent import LatentEnds
from motc.ir.layer import Placements

IN_LAYERS = {
    "width": "width",
    "attention.heads": "heads",
    "attention.kv_heads": "kv_heads",
    "attention.head_dim": "head_dim",
    "attention.value_dim": "value_dim",
    "attention.low_rank": "ranks",
    "attention.bias": "attention_bias",
    "attention.out_bias": "out_bias",
    "attention.gate": "attention_gate",
    "attention.reads": "reads",
    "attention.read_by": "read_by",
    "attention.cross": "crosses",
    "attention.crossed": "crossed",
    "attention.keys": "keys_only",
    "attention.sinks": "attention_sinks",
    "attention.out_gate": "attention_out_gate",
    "attention.qk_norm": "qk_norm",
    "attention.qk_norm_eps": "qk_norm_eps",
    "attention.rope.theta": "rope_theta",
    "ffn.kind": "ffn_kind",
    "ffn.experts": "moe",
    "ffn.hidden": "hidden",
    "ffn.bias": "ffn_bias",
    "ffn.out_gate": "ffn_out_gate",
    "norm.kind": "norm_kind",
    "norm.eps": "norm_eps",
    "norm.offset": "norm_offset",
    "norm.weight": "norm_weight",
    "norm.bias": "norm_bias",
    "norm.placement": "placements",
    "norm.adaptive": "adaptive",
}
OUTSIDE = {
    "width": "width",
    "norm.kind": "norm_kind",
    "norm.eps": "norm_eps",
    "norm.offset": "norm_offset",
    "norm.weight": "norm_weight",
    "norm.bias": "norm_bias",
    "vocab": "vocab",
    "features": "features",
    "latent": "latent",
    "condition": "condition",
    "norm.adaptive": "adaptive",
    "latent.objective": "objective",
    "latent.times": "times",
    "latent.weighting": "weighting",
    "latent.weight": "weight",
    "weight": "target_weight",
    "seen_targets": "seen_targets",
    "positions": "positions",
    "first_position": "first_position",
    "learned_positions": "learned_positions",
    "embedding.tied": "tied",
    "embedding.scale": "embedding_scale",
    "head.bias": "head_bias",
    "head.scale": "logit_scale",
    "head.softcap": "logit_softcap",
    "norm.final": "norm_final",
    "norm.embedding": "norm_embedding",
    "embedding_norm": "embedding_norm",
}
"""What an edit is about, in the language's keys, and the attribute that holds it; a layer's settings have such keys."""


THETA = "attention.rope.theta"
FORM_OF_NORMS = [IN_LAYERS[f"norm.{key}"] for key in ("kind", "eps", "offset", "weight", "bias")]


def attribute_edits(start: Stretch, goal: Stretch, layers: tuple[int, int] | None) -> list[Edit]:
    """What turns the attributes of `start` into those of `goal`; both have the same modalities and blocks."""
    edits = []
    start, goal = _normed_as(start, goal), _normed_as(goal, start)
    current, everyone = start, tuple(goal.attributes)
    subjects = _subjects(start, goal)
    for subject in subjects:
        changes: dict[tuple[Any, Any], list[str]] = {}
        for modality in everyone:
            before, after = (_value(stretch.attributes[modality], subject) for stretch in (start, goal))
            if before != after:
                changes.setdefault((before, after), []).append(modality)
        for (before, after), modalities in changes.items():
            changed: Mapping[str, Facts] = {
                modality: _with(attributes, subject, after) if modality in modalities else attributes
                for modality, attributes in current.attributes.items()
            }
            following = replace(current, attributes=changed)
            if _is_told(subject, subjects, before, after):
                flops_before, flops_after = current.flops(), following.flops()
                edits.append(
                    Edit(
                        kind="~",
                        subject=subject,
                        before=_text(subject, before),
                        after=_text(subject, after),
                        layers=layers,
                        modalities=() if len(modalities) == len(everyone) else tuple(modalities),
                        parameters=following.parameters() - current.parameters(),
                        flops={modality: flops_after[modality] - flops_before[modality] for modality in everyone},
                    )
                )
            current = following
    return edits


def _normed_as(stretch: Stretch, other: Stretch) -> Stretch:
    """The same; where its layers have no norms, what is said of these, from which nothing follows, is as in `other`."""

    def told(facts: Facts, like: Facts) -> Facts:
        if not isinstance(facts, LayerFacts) or facts.placements != Placements():
            return facts
        return replace(facts, **{name: getattr(like, name) for name in FORM_OF_NORMS})

    attributes: Mapping[str, Facts] = {m: told(facts, other.attributes[m]) for m, facts in stretch.attributes.items()}
    return replace(stretch, attributes=attributes)


def _subjects(start: Stretch, goal: Stretch) -> list[str]:
    """What may differ, a section's attributes and settings one after the other."""
    facts = [*start.attributes.values(), *goal.attributes.values()]
    settings = dict.fromkeys(key for each in facts if isinstance(each, LayerFacts) for key in each.settings)
    if not settings:
        return [*OUTSIDE]
    beside = [key for key in settings if key not in IN_LAYERS or key == THETA]  # which comes with what is said of it
    subjects = [*(key for key in IN_LAYERS if key not in beside), *beside]
    sections = [subject.partition(".")[0] for subject in subjects]
    return sorted(subjects, key=lambda subject: sections.index(subject.partition(".")[0]))


def _value(facts: Facts, subject: str) -> Any:
    match facts:
        case LayerFacts():
            name = IN_LAYERS.get(subject)
            return facts.settings.get(subject) if name is None else getattr(facts, name)
        case OuterFacts():
            return getattr(facts, OUTSIDE[subject])
        case _:
            assert_never(facts)


def _with(facts: Facts, subject: str, value: Any) -> Facts:
    match facts:
        case LayerFacts() if subject not in IN_LAYERS:
            return replace(facts, settings={**facts.settings, subject: value})
        case LayerFacts():
            return replace(facts, **{IN_LAYERS[subject]: value})
        case OuterFacts():
            return replace(facts, **{OUTSIDE[subject]: value})
        case _:
            assert_never(facts)


def _is_told(subject: str, subjects: list[str], before: Any, after: Any) -> bool:
    """Whether a change has an edit of its own: what is within a section goes along where the section comes or goes."""
    match subject:
        case "latent" | "features" | "embedding_norm":  # its width is the modality's, which is told as such
            return _text(subject, before) != _text(subject, after)
        case "weight" | "seen_targets":
            return before is not None and after is not None
        case "attention.qk_norm" | "attention.qk_norm.place":  # what a norm of heads is, and where it stands
            return True
        case "attention.qk_norm_eps":
            return 0.0 not in (before, after)
    if any(other.startswith(f"{subject}.") for other in subjects):
        return before is None or after is None
    return subject.rpartition(".")[0] not in subjects or (before is not None and after is not None)


def _text(subject: str, value: Any) -> str:
    match subject:
        case "vocab":
            if value is None:
                return "none"
            size, own = value
            return f"{size} of its own" if own else f"{size} shared"
        case "latent":
            return "none" if value is None else _latent(value)
        case "features":
            return "none" if value is None else str(value)
        case "embedding_norm":
            return "as the final norm" if value is None else f"{value}, eps {_plain(value.eps)}"
        case _:
            return _plain(value)


def _latent(ends: LatentEnds) -> str:
    inside = f" ({ends.unet.channels} channels, {ends.unet.blocks} blocks)" if ends.unet else ""
    return f"{ends.kind}{inside}, {ends.channels} channels in patches of {ends.words}{ends.told}"


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
