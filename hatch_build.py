"""Ships the folders that live beside the package in a checkout as data inside it."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DataFolders(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the data folders, except to an editable install, where a copy would go stale."""
        if version != "editable":
            build_data["force_include"].update({"codegen_templates": "motc/_templates", "specs": "motc/_specs"})
