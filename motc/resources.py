"""Where the building blocks and the shipped specs lie: in an installed wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def templates_folder() -> Path:
    """The folder of building blocks (`codegen_templates/`) that generated models are made of."""
    return _folder("_templates", "codegen_templates")


def specs_folder() -> Path:
    """The folder of shipped specs (`specs/`)."""
    return _folder("_specs", "specs")


def _folder(in_wheel: str, in_checkout: str) -> Path:
    installed = _PACKAGE / in_wheel
    return installed if installed.is_dir() else _PACKAGE.parent / in_checkout
