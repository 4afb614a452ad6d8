"""A model's identity: a hash of what it means, not of how its spec is written."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from motc.ir.model import Model
from motc.ir.partition import Partition


def semantic_hash(model: Model) -> str:
    """16 hexadecimal digits; equal for equal models whatever their name, formatting, or order of statements.

    Towers that nothing is untied by mean nothing, so they do not take part; where they do, the blocks say so.
    Mixtures of experts are added where there are some, and how targets count where it is not 1 each: models without
    have the hash they always had.
    """
    text = repr(replace(model, name="", towers=Partition.one(model.towers.universe)))
    ffns = [segment.layer.ffn for segment in model.segments]
    text += "".join(
        repr((ffn.moe, ffn.router, ffn.shared_gate, ffn.shared_up, ffn.shared_down)) for ffn in ffns if ffn.moe
    )
    text += "".join(
        repr((modality.name, modality.loss.weight, modality.loss.seen_targets is False))
        for modality in model.modalities
        if not modality.loss.is_plain
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
