"""A model's identity: a hash of what it means, not of how its spec is written."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from motc.ir.model import Model


def semantic_hash(model: Model) -> str:
    """16 hexadecimal digits; equal for equal models whatever their name, formatting, or order of statements."""
    return hashlib.sha256(repr(replace(model, name="")).encode()).hexdigest()[:16]
