"""Ships what the package reads of the folders beside it in a checkout as data inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

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
        build_data["force_include"].update({"codegen_templates": "motc/_templates", **files})

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Packs the wheel as small as it gets."""
        with ZipFile(artifact_path) as wheel:
            files = [(info, wheel.read(info)) for info in wheel.infolist()]
        with ZipFile(artifact_path, "w") as wheel:
            for info, data in files:
                wheel.writestr(info, data, ZIP_DEFLATED, compresslevel=9)
