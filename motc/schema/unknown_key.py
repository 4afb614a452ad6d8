"""What to write in place of a key that is not known: another key, another place, or one of those that there are."""

from __future__ import annotations

from typing import Any

from motc.schema import elsewhere
from motc.schema.keys import STATEMENTS, dotted_keys, homes, keys_of, known_keys, section_at, words_of
from motc.source import Span
from motc.source.nearest import nearest
from motc.source.printable import cut
from motc.source.way_out import WayOut
from motc.syntax.scalar import write_scalar

Path = tuple[str | int, ...]


def instead_of(path: Path, value: Any, span: Span) -> str:
    """The way out for an unknown key at `path`, which was set to `value`."""
    key, around = str(path[-1]), path[:-1]
    if way_out := elsewhere.WAYS_OUT.get(key.lower()):
        return way_out
    if meant := elsewhere.KEYS.get(key.lower()):
        return _moved(around, meant, value, span)
    if "." in key and (meant := nearest(key, dotted_keys(around))):
        return _set(around, meant, value, span)
    if elsewhere_said := _of_the_model(path, value, span) or _of_a_tower(path, value, span):
        return elsewhere_said
    if below := homes(key, around):
        *others, last = (f"`{each}`" for each in below)
        return f"did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
    known = known_keys(around, in_mot=in_mot(span))
    said = {statement: key for key, statement in STATEMENTS.items()}.get(key, key)  # `modality`, in YAML
    if meant := nearest(said, known):
        return WayOut(f"did you mean `{meant}`?", meant)
    return _by_value(around, key, value, span) or f"known keys here: {', '.join(known)}"


def _moved(path: Path, dotted: str, value: Any, span: Span) -> str:
    """That a key of the model, or of the tower or the layers around `path`, is to be set where it belongs."""
    around = next((path[:end] for end in range(len(path), 0, -1) if dotted in dotted_keys(path[:end])), ())
    within = "".join(f"{section}." for section in path[len(around) :])
    if dotted.startswith(within):
        return _set(path, dotted.removeprefix(within), value, span)
    return f"did you mean `{setting(around, dotted, value, span)}`?"


def _set(path: Path, dotted: str, value: Any, span: Span) -> str:
    """That a key at `path` or below it is meant, which is set to the value."""
    text = setting(path, dotted, value, span)
    words = f"did you mean `{text}`?"
    return words if isinstance(value, dict | list) else WayOut(words, text, whole=True)


def _of_the_model(path: Path, value: Any, span: Span) -> str:
    """Of a key that the model has at the same place, and a tower or some layers have not: that it is the model's."""
    rest = path[2:] if path[0] in ("towers", "by_layer") else ()
    who = "towers" if path[0] == "towers" or rest[:1] == ("towers",) else "layers"
    rest = rest[2:] if rest[:1] == ("towers",) else rest
    dotted = ".".join(map(str, rest))
    if not rest or dotted not in dotted_keys(()):
        return ""
    return f"it is the same in all {who}: `{setting((), dotted, value, span)}`"


def _of_a_tower(path: Path, value: Any, span: Span) -> str:
    """Of a key that towers have at the same place, and the model or its layers have not: that it is a tower's."""
    rest = path[2:] if path[0] == "by_layer" else path
    dotted = ".".join(map(str, rest))
    if rest[:1] == ("towers",) or not rest or dotted not in dotted_keys(("towers", "NAME")):
        return ""
    return f"it is said of a tower, in its block: `{setting((), dotted, value, span)}`"


def _by_value(path: Path, key: str, value: Any, span: Span) -> str:
    """By what the key is set to, a word that another key knows; or a key whose name the section's begins."""
    section, beside = section_at(path), section_at(path[:-1]) if path else None
    words = {} if section is None else words_of(section)
    word = key if value is True else value if isinstance(value, str) else ""
    if word in words:
        known, meant = words[word]
        return _set(path, known, meant, span)
    joined = f"{path[-1]}_{key}" if path else ""
    if beside is not None and joined in keys_of(beside):
        return f"did you mean `{setting(path[:-1], joined, value, span)}`, beside `{path[-1]}`?"
    return ""


def setting(path: Path, dotted: str, value: Any, span: Span) -> str:
    """A key in a section below `path` set to a value, in the words of where that is read."""
    *sections, key = dotted.split(".")
    said = "…" if isinstance(value, dict | list) else plain(value)
    if span.source.name == "--set":
        return f"{'.'.join([*map(str, path), dotted])}={said}"
    text = f"{key} = {said}" if in_mot(span) else f"{key}: {said}"
    for section in reversed(sections):
        text = f"{section} {{ {text} }}" if in_mot(span) else f"{section}: {{{text}}}"
    return text


def plain(value: object) -> str:
    """What is no section and no list, as a spec has it."""
    if value is None or isinstance(value, bool):
        return write_scalar(value)
    return cut(write_scalar(float(value)) if isinstance(value, float) else str(value))


def in_mot(span: Span) -> bool:
    """Whether a place is in a `.mot` text."""
    return span.source.name.lower().endswith(".mot")
