"""The building blocks and the shipped specs: in an installed wheel, or beside the package in a checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

_PACKAGE = Path(__file__).resolve().parent


def templates() -> dict[str, str]:
    """The texts of the building blocks (`codegen_templates/`) that generated models are made of, by their files."""
    installed = _PACKAGE / "_templates.json"
    if installed.is_file():
        return cast(dict[str, str], json.loads(installed.read_text(encoding="utf-8")))
    folder = _PACKAGE.parent / "codegen_templates"
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))}


def specs_folder() -> Path:
    """The folder of shipped specs (`specs/`)."""
    installed = _PACKAGE / "_specs"
    return installed if installed.is_dir() else _PACKAGE.parent / "specs"
