"""What can be written at a place: the text is read with a word there, and its place in the tree says what fits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args, get_origin

from motc.ir.inventory import LAYER_PATHS, OUTER_PATHS, SECTIONS
from motc.lsp.analysis import Analysis
from motc.lsp.outline import Outline, Word, outline_of
from motc.schema.keys import EXTENDS, STATEMENTS, field_at, keys_of, known_keys, names_modalities, section_at, words_of
from motc.schema.values import takes_none
from motc.source import SourceFile

Kind = Literal["key", "section", "word", "name", "group", "file"]

_MARK = "motc0here"
_UNTIE = re.compile(r"^[ \t]*untie[ \t]+[\w.*]+(?:[ \t]*,[ \t]*[\w.*]+)*(?P<as>[ \t]+as[ \t]+\{.*\})?[ \t]+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A word that fits from `start` to `end`: what is written for it, and what it means."""

    label: str
    kind: Kind
    start: int
    end: int
    insert: str
    detail: str = ""


def complete(analysis: Analysis, offset: int, names: Iterable[str] = ()) -> tuple[Item, ...]:
    """What fits at an offset, in place of the word that stands there. `names` are those of modalities and towers."""
    text = analysis.source.text
    start = offset - len(re.search(r"[\w.*]*\Z", text[max(0, offset - 100) : offset])[0])  # type: ignore[index]
    end = offset + len(re.match(r"[\w.*]*", text[offset : offset + 100])[0])  # type: ignore[index]
    outline = outline_of(SourceFile(analysis.source.name, f"{text[:start]}{_MARK}{text[end:]}"))
    here = next((word for word in outline.words if word.shown == _MARK), None)
    if here is None:
        return ()
    line = text[text.rfind("\n", 0, start) + 1 : start]
    in_mot = analysis.source.name.lower().endswith(".mot")
    if in_mot and (untied := _UNTIE.search(line)):
        choices: Iterator[tuple[str, Kind, str, str]] = _of_untie(bool(untied["as"]))
    elif here.role == "value":
        choices = _values(analysis, outline, here, sorted(names), in_mot=in_mot)
    elif here.role == "key":
        choices = _keys(outline, here.path[:-1], in_mot=in_mot)
    else:
        choices = ((name, "name", name, "") for name in sorted(names))
    return tuple(
        Item(label=label, kind=kind, start=start, end=end, insert=insert, detail=detail)
        for label, kind, insert, detail in choices
    )


def _of_untie(has_blocks: bool) -> Iterator[tuple[str, Kind, str, str]]:
    if not has_blocks:
        yield "as", "key", "as {", "the partition"
    yield "in layers", "key", "in layers ", "in some layers alone"


def _keys(outline: Outline, path: tuple[str | int, ...], *, in_mot: bool) -> Iterator[tuple[str, Kind, str, str]]:
    section = section_at(path)
    if section is None and path and names_modalities((*path, _MARK)):
        return
    fields = {} if section is None else keys_of(section)
    statements = {statement: key for key, statement in STATEMENTS.items()}
    for known in known_keys(path, in_mot=in_mot):
        key = statements.get(known, known) if in_mot else known
        if (*path, key) in outline.keys and known not in (*statements, "untie"):
            continue
        field = fields.get(key)
        is_section = section_at((*path, key)) is not None
        if in_mot and (known in (*statements, "untie") and not path):
            insert = f"{known} "
        elif in_mot and known == "extends":
            insert = 'extends "'
        elif in_mot:
            insert = f"{known} {{ " if is_section else f"{known} = "
        else:
            insert = f"{known}:" if is_section else f"{known}: "
        detail = EXTENDS if known == "extends" else (field.description or "") if field else ""
        yield known, "section" if is_section else "key", insert, detail


def _values(
    analysis: Analysis, outline: Outline, word: Word, names: list[str], *, in_mot: bool
) -> Iterator[tuple[str, Kind, str, str]]:
    path = word.path
    if path == ("extends",):
        folder = analysis.path.parent
        for each in _specs(folder):
            if each != analysis.path.name:
                yield each, "file", each if _is_quoted(word) else f'"{each}"', ""
        return
    if path[:1] == ("untie",) and path[2:3] == ("groups",):
        for group in (*SECTIONS, *_groups(analysis), "*"):
            yield group, "group", group, "a section's groups" if group in SECTIONS else ""
        return
    if names_modalities(path):
        said = {each.shown for each in outline.words if each.path[:-1] == path[:-1] and each.role == "value"}
        yield from ((name, "name", name, "") for name in names if name not in said or not isinstance(path[-1], int))
    while path and isinstance(path[-1], int):
        path = path[:-1]
    field = field_at(path)
    if field is None:
        return
    section = section_at(path)
    words = dict.fromkeys([*(["none"] if takes_none(field) else []), *_words(field.annotation)])
    if section is not None:
        words |= dict.fromkeys(each for each, (key, _) in words_of(section).items() if key in ("kind", "by"))
        if not in_mot:  # `attention:` and below it the first key
            yield from _keys(outline, path, in_mot=False)
    yield from ((each, "word", each, field.description or "") for each in words)


def _words(annotation: object) -> Iterator[str]:
    if annotation is bool:
        yield from ("true", "false")
    elif get_origin(annotation) is Literal:
        yield from (str(each) for each in get_args(annotation))
    else:
        for part in get_args(annotation):
            yield from _words(part)


def _groups(analysis: Analysis) -> tuple[str, ...]:
    """The groups that the model has, or had when it was last right, and else all that there are."""
    if analysis.meaning is None:
        return (*LAYER_PATHS, *OUTER_PATHS)
    return tuple(dict.fromkeys(leaf.path for leaf in analysis.meaning.leaves()))


def _specs(folder: Path) -> list[str]:
    try:
        return sorted(each.name for each in folder.iterdir() if each.suffix in (".mot", ".yaml", ".yml"))
    except OSError:
        return []


def _is_quoted(word: Word) -> bool:
    return word.text != word.shown or word.text.startswith('"')
