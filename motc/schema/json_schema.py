"""The JSON schema of a spec's YAML form, for editors."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from pydantic import BaseModel

from motc.schema.keys import EXTENDS, keys_of, plain_type, sections_in
from motc.schema.spec import Spec
from motc.schema.values import NAME

STATEMENTS = ("UntieSpec", "LayersSpec")


def json_schema() -> dict[str, Any]:
    """The schema: what a spec must say it must say unless it extends another, which may say it already."""
    schema = _named(Spec.model_json_schema())
    schema["$defs"]["Name"] = NAME
    schema["properties"]["extends"] = {"type": "string", "description": EXTENDS}
    for section in (schema, *schema["$defs"].values()):
        if section.get("title") not in STATEMENTS:  # which are added to those of the base, not merged with one
            section.pop("required", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "if": {"required": ["extends"]},
        "else": _required(Spec),
    }


def _named(schema: Any) -> Any:
    """The same, with every name by reference: what cannot be one is a long list."""
    match schema:
        case dict():
            if schema.get("not") == NAME["not"]:
                kept = {key: value for key, value in schema.items() if key not in NAME}
                return {**kept, "$ref": "#/$defs/Name"}
            return {key: _named(value) for key, value in schema.items()}
        case list():
            return [_named(item) for item in schema]
        case _:
            return schema


def _required(section: type[BaseModel]) -> dict[str, Any]:
    """What a section must hold, and those in it."""
    schema: dict[str, Any] = {}
    inner: dict[str, Any] = {}
    for key, field in keys_of(section).items():
        annotation = plain_type(field.annotation)
        many = get_origin(annotation) is dict
        for below in sections_in(get_args(annotation)[1] if many else annotation):
            if demands := _required(below):
                inner[key] = {"additionalProperties": demands} if many else demands
    if required := [key for key, field in keys_of(section).items() if field.is_required()]:
        schema["required"] = required
    if inner:
        schema["properties"] = inner
    return schema
