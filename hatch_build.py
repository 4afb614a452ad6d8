"""Ships what the package reads of the folders beside it in a checkout as data inside it."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHIPPED = ("*.mot", "gallery/*.mot", "gallery/mappings/*.yaml")
"""Of `specs/`, what `motc new` begins from and `motc import` reads; pages and the paper's specs stay in a checkout."""


class DataFolders(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the data, except to an editable install, where a copy would go stale."""
        if version == "editable":
            return
        specs = Path(self.root, "specs")
        shipped = {path.relative_to(specs).as_posix() for pattern in SHIPPED for path in specs.glob(pattern)}
        files = {f"specs/{name}": f"motc/_specs/{name}" for name in sorted(shipped)}
        blocks = {
            path.name: path.read_text(encoding="utf-8") for path in Path(self.root, "codegen_templates").glob("*.py")
        }
        self.folder = TemporaryDirectory()
        packed = Path(self.folder.name, "templates.json")  # as one file they are packed to three quarters
        packed.write_text(json.dumps(blocks), encoding="utf-8")
        build_data["force_include"].update({str(packed): "motc/_templates.json", **files})

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes what was packed."""
        if version != "editable":
            self.folder.cleanup()
