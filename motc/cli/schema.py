"""`motc schema`: the JSON schema of specs, for editors."""

from __future__ import annotations

from motc.cli.output import print_json


def run() -> None:
    """Print the JSON schema of a spec's YAML form, for editors."""
    from motc.schema.json_schema import json_schema

    print_json(json_schema())
