"""What is told of a word that is pointed at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from motc.diff import diff
from motc.ir.inventory import LAYER_PATHS, OUTER_PATHS, SECTIONS
from motc.lower.resolved import DEFAULT, resolved
from motc.lower.selectors import paths_of
from motc.lsp import outline
from motc.lsp.analysis import Analysis, Meaning
from motc.lsp.costs import told_groups, told_modality
from motc.lsp.names import is_name
from motc.lsp.outline import Word
from motc.schema.keys import EXTENDS, field_at

MOST_EDITS = 20


def hover(analysis: Analysis, offset: int) -> tuple[Word, str] | None:
    """The word at an offset, and Markdown that says what it is; None where there is nothing to say."""
    word = analysis.outline.word_at(offset)
    if word is None:
        return None
    told = "\n\n".join(_told(analysis, word))
    return (word, told) if told else None


def _told(analysis: Analysis, word: Word) -> Iterator[str]:
    path, model = key_path(word.path), analysis.meaning.model if analysis.meaning else None
    if is_name(word):
        kind = "tower" if word.path[-2:-1] == ("towers",) else "modality"
        yield f"**{kind} `{word.shown}`**"
        if model is not None:
            yield from told_modality(model, word.shown)
        return
    if path[:1] == ("untie",) and path[-1] == "groups" and word.role == "value":
        paths = paths_of(word.shown, LAYER_PATHS + OUTER_PATHS)
        yield f"**`{word.shown}`** — {', '.join(f'`{each}`' for each in paths) or 'no parameter group'}"
        if model is not None:
            yield from told_groups(model, paths)
        return
    if path == ("extends",):
        yield f"**`extends`** — {EXTENDS}"
    field = field_at(path)
    if field is None:
        return
    yield f"**`{dotted(path)}`** — {field.description}" if field.description else f"**`{dotted(path)}`**"
    default = field.get_default(call_default_factory=True)
    if field.is_required():
        yield "required"
    elif isinstance(default, bool | int | float | str):
        yield f"default: `{said(default)}`"
    if analysis.meaning is not None:
        yield from _value(analysis.meaning, path)
    if model is not None and len(path) == 1 and path[0] in SECTIONS and word.role == "key":
        yield from told_groups(model, SECTIONS[str(path[0])])
    if path == ("model",) and analysis.is_right and analysis.meaning and analysis.saved:
        edits = diff(analysis.saved.model, analysis.meaning.model)
        if edits:
            yield "against the file:\n\n" + "\n".join(f"- {each.kind} {each.describe()}" for each in edits[:MOST_EDITS])


def _value(meaning: Meaning, path: outline.Path) -> Iterator[str]:
    """The value of a key here, and where it came from."""
    key = dotted(path)
    for each, value, origin in resolved(meaning.checked):
        if each == key:
            yield f"here: `{said(value)}`, {'the default' if origin == DEFAULT else f'from {_link(origin)}'}"


def _link(origin: str) -> str:
    """`file:line` as a link."""
    name, _, line = origin.rpartition(":")
    path = Path(name)
    return f"[{path.name}:{line}]({path.as_uri()}#L{line})" if path.is_absolute() else origin


def key_path(path: outline.Path) -> outline.Path:
    """The path of the key that an item of a list is of."""
    return key_path(path[:-1]) if path and isinstance(path[-1], int) else path


def dotted(path: outline.Path) -> str:
    """A place as the page of the language calls it."""
    return ".".join(step for step in path if isinstance(step, str))


def said(value: Any) -> str:
    """A value as a spec has it."""
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)
