"""A model's identity: a hash of what it means, not of how its spec is written."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from motc.ir.model import Model
from motc.ir.partition import Partition


def semantic_hash(model: Model) -> str:
    """16 hexadecimal digits; equal for equal models whatever their name, formatting, or order of statements.

    Towers that nothing is untied by mean nothing, so they do not take part; where they do, the blocks say so.
    """
    return hashlib.sha256(
        repr(replace(model, name="", towers=Partition.one(model.towers.universe))).encode()
    ).hexdigest()[:16]
