"""Short words of a drawing: numbers, layers, what a copy holds, what comes in and what is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import assert_never

from motc.diff.edit import UNITS
from motc.ir.model import FeatureModality, LatentModality, Modality, Model
from motc.ir.operators import (
    Condition,
    Embedding,
    Experts,
    LatentEnds,
    Linear,
    Modulation,
    Norm,
    Operator,
    Projector,
    Sinks,
    TanhGate,
)


def short(number: int) -> str:
    """`28.6B`, `1.5k`, `12`."""
    for unit, letter in UNITS:
        if number >= unit:
            return f"{number / unit:.1f}{letter}"
    return str(number)


def in_bytes(number: int) -> str:
    """`512 B`, `1.5 MiB`."""
    size, unit = float(number), "B"
    for following in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, following
    return f"{number} B" if unit == "B" else f"{size:.1f} {unit}"


def ranges(each: Sequence[tuple[int, int]]) -> str:
    """`0..4, 6..10`; `3..35 step 4` where three single layers or more are equally far apart."""
    steps = {after[0] - before[0] for before, after in pairwise(each)}
    if len(each) > 2 and len(steps) == 1 and all(first == last for first, last in each):
        return f"{each[0][0]}..{each[-1][0]} step {steps.pop()}"
    return ", ".join(str(first) if first == last else f"{first}..{last}" for first, last in each)


def braces(blocks: Iterable[Iterable[str]]) -> str:
    """`{text} {image vae}`."""
    return " ".join("{" + " ".join(block) + "}" for block in blocks)


def held(operator: Operator) -> str:
    """What a copy holds, in few words: `128 → 384`, `258 × 128`, `rms`."""
    match operator:
        case Experts(count=count, in_features=narrow, out_features=wide):
            return f"{count} × ({narrow:,} → {wide:,})"
        case Linear(in_features=narrow, out_features=wide):
            return f"{narrow:,} → {wide:,}"
        case Norm():
            return operator.words
        case Embedding(vocab=vocab, width=width):
            return f"{vocab:,} × {width:,}"
        case LatentEnds(channels=channels, words=patch):
            return f"{channels} channels, patches of {patch}, {operator.kind}"
        case Projector(width=width):
            return f"{operator} → {width:,}"
        case Sinks(heads=heads):
            return f"{heads} heads"
        case Condition(width=width):
            return f"{operator} → {width:,}"
        case Modulation(size=size, width=width, parts=parts):
            return f"{size:,} → {', '.join(parts)} of {width:,}"
        case TanhGate():
            return "tanh of a number"
        case _:
            assert_never(operator)


def entering(modality: Modality, model: Model) -> tuple[str, ...]:
    """What comes in of a modality, a line each."""
    match modality:
        case LatentModality(ends=ends):
            return ("noised latents", f"{ends.channels} channels, patch {ends.words.partition(' of ')[0]}")
        case FeatureModality(projector=projector):
            return ("given vectors", f"of {projector.size:,} numbers")
        case _:
            vocab = model.vocab if modality.vocab is None else modality.vocab
            return ("token ids", f"of {vocab or 0:,}{', shared' if modality.vocab is None else ''}")


def leaving(modality: Modality, model: Model) -> tuple[str, ...]:
    """What is made of a modality's tokens, a line each; nothing of features."""
    match modality:
        case LatentModality(objective=objective, weight=weight):
            return (f"denoised: {objective}", "" if weight == 1 else f"loss × {weight:g}")
        case FeatureModality():
            return ("read by others only",)
        case _:
            return ("next-token logits", "" if modality.loss.weight == 1 else f"loss × {modality.loss.weight:g}")
