"""`motc schema`: the JSON schema of specs, for editors."""

from __future__ import annotations

from motc.cli.output import print_json


def run() -> None:
    """Print the JSON schema of a spec's YAML form, for editors."""
    from motc.schema import Spec

    schema = Spec.model_json_schema()
    schema["properties"]["extends"] = {"type": "string", "description": "the spec this one starts from"}
    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
