"""How two models differ: edits as data, with what each adds in parameters and FLOPs.

`motc.diff(a, b)` compares two specs, for which this package can itself be called.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from motc.diff.edit import Edit
from motc.diff.edits import diff

__all__ = ["Edit", "diff"]


class _Called(ModuleType):
    """This package, called as `motc.report.notebook.diff`."""

    def __call__(self, before: Any, after: Any) -> Any:
        return import_module("motc.report.notebook").diff(before, after)


sys.modules[__name__].__class__ = _Called
