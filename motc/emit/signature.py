"""A generated file's signature: its last line, a digest of all above it, so that an edit shows."""

from __future__ import annotations

import hashlib

SIGNATURE = "# motc: sha256 "


def sign(text: str) -> str:
    """The text and its signature, set off by two empty lines."""
    body = text + "\n\n"
    return f"{body}{SIGNATURE}{_digest(body)}\n"


def is_untouched(text: str) -> bool:
    """Whether a file is as it was generated; False for a file without a signature."""
    body, mark, digest = text.rpartition(SIGNATURE)
    return bool(mark) and digest == f"{_digest(body)}\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
