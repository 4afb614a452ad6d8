"""One error of pydantic's as a diagnostic, in the words of a spec: no Python types, no classes of ours."""

from __future__ import annotations

from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from motc.schema import elsewhere
from motc.schema.keys import STATEMENTS, field_at, keys_of, section_at, words_of
from motc.schema.mistake import Mistake
from motc.schema.tree import find_span, key_span, node_at, said_path
from motc.schema.unknown_key import in_mot, instead_of, plain, setting
from motc.schema.values import takes_none
from motc.source import Diagnostic, Span
from motc.source.nearest import nearest, suggestion
from motc.source.printable import cut
from motc.source.way_out import Fix, WayOut
from motc.syntax.scalar import worked_out
from motc.syntax.tree import Mapping

NAMES = "a name or a list of names"
LISTS = {
    "prefix": NAMES,
    "bidirectional": NAMES,
    "sees": NAMES,
    "modalities": "a list of names",
    "runs": "a list of runs, such as [[a, b], c]",
    "blocks": "a list of blocks, such as [[a, b], c]",
    "as": "a list of blocks, such as [[a, b], [c]]",
    "groups": "a list of selectors",
}
BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
YES, NO = ("true", "yes", "on", "y", "1"), ("false", "no", "off", "n", "0")


def place(tree: Mapping, details: ErrorDetails) -> Span:
    """Where a reader looks for an error: at the key, if that is what is wrong."""
    path = details["loc"]
    if isinstance(error := _error(details), Mistake):
        return find_span(tree, (*path, *error.at))
    if details["type"] == "extra_forbidden":
        return key_span(tree, path)
    return key_span(tree, path[:-1]) if path and path[-1] == "[key]" else find_span(tree, path)


def complaint(tree: Mapping, details: ErrorDetails) -> Diagnostic:
    """What is wrong, where, and a way out."""
    path, span = details["loc"], place(tree, details)
    if isinstance(error := _error(details), Mistake):
        return Diagnostic(code=error.code, message=str(error), span=span, help=error.way_out)
    if details["type"] == "extra_forbidden":
        message, way_out = f"unknown key `{cut(str(path[-1]))}`", instead_of(path, details["input"], span)
        return Diagnostic(code="MOT021", message=message, span=span, help=way_out, fix=_whole(tree, path, way_out))
    if details["type"] == "missing":
        message = f"`{_dotted(path)}` is missing"
        return Diagnostic(code="MOT022", message=message, span=span, help=_addition(path, span))
    path = said_path(tree, path)
    message = f"`{_dotted(path)}` should be {_expected(path, details)}, not {_given(details)}"
    way_out = _way_out(path, details, span)
    return Diagnostic(code="MOT023", message=message, span=span, help=way_out, fix=_whole(tree, path, way_out))


def _whole(tree: Mapping, path: tuple[str | int, ...], way_out: str) -> Fix | None:
    """The fix that takes the place of a key with its value; None where the section that it begins is said already."""
    if not isinstance(way_out, WayOut) or not way_out.whole:
        return None
    above = node_at(tree, path[:-1])
    entry = above.by_key.get(str(path[-1])) if isinstance(above, Mapping) else None
    if not isinstance(above, Mapping) or entry is None:
        return None
    source, end = entry.key_span.source, entry.value.span.end
    said = above.by_key.get(way_out.instead.split()[0].rstrip(":"))
    if said is not None and said is not entry and said.key_span.source == source:
        return None
    return Fix(Span(source, entry.key_span.start, end), way_out.instead) if entry.value.span.source == source else None


def _error(details: ErrorDetails) -> object:
    """What one of our validators raised, if one did."""
    return (details.get("ctx") or {}).get("error")


def _addition(path: tuple[str | int, ...], span: Span) -> str:
    key = str(path[-1])
    if in_mot(span) and key == "modalities":
        tower = path[1] if len(path) > 1 else ""
        statement = f"tower {tower} = NAME, …" if tower else f"{STATEMENTS[key]} NAME, …"
        return f"add `{statement}`, here or in the base spec"
    return f"add `{key}`, here or in the base spec"


def _expected(path: tuple[str | int, ...], details: ErrorDetails) -> str:
    kind, context = details["type"], details.get("ctx") or {}
    field = field_at(path)
    match kind:
        case "int_type":
            return "a whole number"
        case "float_type":
            return "a number"
        case "bool_type":
            return "true, false or a section" if section_at(path) else "true or false"
        case "string_type":
            return "a selector" if "groups" in path else "a name"
        case "list_type":
            in_list = str(next((step for step in reversed(path) if step in LISTS), path[-1]))
            if path[-1] == in_list:
                return LISTS.get(in_list, "a list")
            return "a list of names" if in_list == "as" else NAMES
        case "dict_type" if path == ("modalities",):
            return "a list of names, or a section"
        case "model_type" | "dict_type":
            return "none or a section" if field is not None and takes_none(field) else "a section"
        case "literal_error":
            return _either([*_words(path, details), *(["a section"] if section_at(path) else [])])
        case "too_short":
            return "at least one"
        case "too_long":
            return f"at most {context['max_length']}"
        case _ if kind in BOUNDS:
            words, bound = BOUNDS[kind]
            return f"{words} {context[bound]:g}" if isinstance(context[bound], float) else f"{words} {context[bound]}"
        case _:
            return details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


def _way_out(path: tuple[str | int, ...], details: ErrorDetails, span: Span) -> str:
    kind, value, section = details["type"], details["input"], section_at(path)
    if value is None:
        return "write {} for a section that says nothing" if kind == "model_type" else ""
    keys = "" if section is None else f"its keys: {', '.join(sorted(keys_of(section)))}"
    match kind:
        case "literal_error":
            known = _words(path, details)
            if same := [word for word in elsewhere.WORDS.get(str(value).lower(), "").split() if word in known]:
                return WayOut(f"did you mean `{'`, or with a gate `'.join(same)}`?", same[0])
            return suggestion(str(value), known, keys)
        case "bool_type" if str(value).lower() in YES + NO:
            answer = "true" if str(value).lower() in YES else "false"
            return WayOut(f"did you mean `{answer}`?", answer)
        case "int_type" | "float_type" if isinstance(value, str) and (number := worked_out(value)):
            return WayOut(f"write {number}", number)
        case "int_type" | "float_type" if isinstance(value, str) and value.strip("+-").replace(".", "", 1).isdigit():
            return WayOut("leave out the quotes", value)
        case "int_type" if isinstance(value, float) and value.is_integer():
            return WayOut(f"write {value:.0f}", f"{value:.0f}")
        case "int_type" | "float_type" | "bool_type":
            field = field_at(path)
            return f"{path[-1]}: {field.description}" if field is not None and field.description else ""
        case "model_type" | "dict_type":
            field = field_at(path)
            if isinstance(value, str) and field is not None and takes_none(field) and nearest(value, ["none"]):
                return WayOut("did you mean `none`?", "none")
            words = {} if section is None else words_of(section)
            if isinstance(value, str) and (word := nearest(value, words)):
                key, meant = words[word]
                text = setting(path[:-1], f"{path[-1]}.{key}", meant, span)
                return WayOut(f"did you mean `{text}`?", text, whole=True)
            return keys
        case _:
            return ""


def _words(path: tuple[str | int, ...], details: ErrorDetails) -> list[str]:
    """The words a key knows; `none` comes first where it is one of them."""
    expected = str((details.get("ctx") or {}).get("expected", "")).replace(" or ", ", ")
    field: FieldInfo | None = field_at(path)
    none = ["none"] if field is not None and takes_none(field) else []
    return [*none, *(word.strip(" '") for word in expected.split(","))]


def _either(words: list[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _dotted(path: tuple[str | int, ...]) -> str:
    """A place as docs/language.md calls it: places in lists are not counted."""
    return ".".join(cut(step) for step in path if isinstance(step, str) and step != "[key]")


def _given(details: ErrorDetails) -> str:
    value = details["input"]
    match value:
        case dict() | list() if details["type"] == "too_long":
            return str(len(value))
        case dict():
            return "a section" if value else "an empty section"
        case list():
            return "a list" if value else "an empty list"
        case str():
            return f"`{cut(value)}`"
        case _:
            return plain(value)
