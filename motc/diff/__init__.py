"""How two models differ: edits as data, with what each adds in parameters and FLOPs."""

from __future__ import annotations

from motc.diff.edit import Edit
from motc.diff.edits import diff

__all__ = ["Edit", "diff"]
