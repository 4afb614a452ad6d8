"""What the schema knows at a place of a spec: its keys, the field that stands there, and where a key would be right."""

from __future__ import annotations

import types
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from motc.schema.spec import LayersSpec, Spec
from motc.schema.values import OF_MODALITIES

Path = Seq[str | int]

# The statements that say a key of the tree in `.mot`; `extends` is followed before the schema sees a spec.
STATEMENTS = {"modalities": "modality", "towers": "tower", "by_layer": "layers"}


EXTENDS = "the spec this one starts from"


def keys_of(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a section by the key a spec says them with."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def section_at(path: Path) -> type[BaseModel] | None:
    """The section that stands at `path`, or None: a value stands there, a name is expected, or nothing is known."""
    section_or_value: Any = Spec
    for step in path:
        section_or_value = _below(section_or_value, step)
    return next(sections_in(section_or_value), None)


def field_at(path: Path) -> FieldInfo | None:
    """The field that the last key of `path` names, if the schema has it."""
    section = section_at(path[:-1]) if path else None
    return None if section is None else keys_of(section).get(str(path[-1]))


def names_modalities(path: Path) -> bool:
    """Whether what a value at `path` names, or in a list there, is a modality or a tower."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    field = field_at(path)
    if field is None:  # a name of the author's stands last, as in `sees { text = image }`
        field = field_at(path[:-1])
        return field is not None and get_origin(plain_type(field.annotation)) is dict and _is_marked(field.annotation)
    return OF_MODALITIES in field.metadata or _is_marked(field.annotation)


def _is_marked(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return OF_MODALITIES in get_args(annotation) or _is_marked(get_args(annotation)[0])
    return not isinstance(annotation, type) and any(map(_is_marked, get_args(annotation)))


def known_keys(path: Path, *, in_mot: bool) -> list[str]:
    """The keys and statements a spec may have at `path`, sorted, in the words of its syntax."""
    section = section_at(path)
    keys = set() if section is None else set(keys_of(section))
    if section is Spec:
        keys.add("extends")
    if section is LayersSpec and in_mot:
        keys.remove("layers")  # which stand before the block
    if section in (Spec, LayersSpec) and in_mot:
        keys = {STATEMENTS.get(key, key) for key in keys}
    return sorted(keys)


def homes(key: str, path: Path) -> list[str]:
    """The dotted keys below `path` that end in `key`, said from there."""
    return [where for where in dotted_keys(path) if where.split(".")[-1] == key]


def dotted_keys(path: Path) -> tuple[str, ...]:
    """The dotted keys below `path`, said from there."""
    section = section_at(path)
    return () if section is None else _leaves(section)


@cache
def words_of(section: type[BaseModel]) -> dict[str, tuple[str, str | bool]]:
    """The words that keys of a section know, each with its key, and the keys that are true or false."""
    word_keys: dict[str, tuple[str, str | bool]] = {}
    for key, field in keys_of(section).items():
        for part in _choices(field.annotation):
            words = get_args(part) if get_origin(part) is Literal else ()
            for word in words:
                if isinstance(word, str):
                    word_keys.setdefault(word, (key, word))
            if part is bool:
                word_keys.setdefault(key, (key, True))
    return word_keys


@cache
def _leaves(section: type[BaseModel]) -> tuple[str, ...]:
    """The dotted keys of a section that no name of the author's stands in."""
    dotted: list[str] = []
    for key, field in keys_of(section).items():
        dotted.append(key)
        if get_origin(plain_type(field.annotation)) is not dict:
            for inner in sections_in(field.annotation):
                dotted += [f"{key}.{rest}" for rest in _leaves(inner)]
    return tuple(dotted)


def _below(annotation: Any, step: str | int) -> Any:
    """The type one step into a type: a section's field, a mapping's or a list's item; None where there is none."""
    for part in _choices(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            field = keys_of(part).get(str(step))
            if field is not None:
                return field.annotation
        elif get_origin(part) is dict:
            return get_args(part)[1]
        elif get_origin(part) is list and isinstance(step, int):
            return get_args(part)[0]
    return None


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a type allows; of the items of a list or mapping none."""
    for part in _choices(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part


def sections_below(annotation: Any, middle: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """The sections in a type, of items too, each with what its keys begin with: `NAME.` for a name of the author's."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, middle
    for part in get_args(annotation):
        yield from sections_below(part, "NAME." if get_origin(annotation) is dict else middle)


def _choices(annotation: Any) -> Iterator[Any]:
    annotation = plain_type(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _choices(part)
    else:
        yield annotation


def plain_type(annotation: Any) -> Any:
    """A type without what Annotated says of it."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation
