"""The specs that one extends, and those that extend it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from motc.lsp.analysis import Texts
from motc.lsp.outline import Outline, outline_of
from motc.schema.resolve import MAX_DEPTH
from motc.source import SpecError
from motc.syntax import read_file

MOST_FILES = 500
SUFFIXES = (".mot", ".yaml", ".yml")


def read_outline(path: Path, texts: Texts, holding: str = "") -> Outline | None:
    """The outline of an open text, or of a file; None if it cannot be read, or does not hold some word."""
    try:
        source = texts.get(path) or read_file(path)
    except SpecError:
        return None
    return outline_of(source) if holding in source.text else None


def base_of(path: Path, outline: Outline) -> Path | None:
    """The spec that a text says it extends."""
    word = next((each for each in outline.words if each.path == ("extends",) and each.role == "value"), None)
    try:
        return None if word is None else (path.parent / word.shown).resolve()
    except (OSError, ValueError, RuntimeError):
        return None


def chain_of(path: Path, texts: Texts) -> dict[Path, Outline]:
    """A text and the specs that it extends, nearest first."""
    chain: dict[Path, Outline] = {}
    here: Path | None = path
    while here is not None and here not in chain and len(chain) <= MAX_DEPTH:
        outline = read_outline(here, texts)
        if outline is None:
            break
        chain[here] = outline
        here = base_of(here, outline)
    return chain


def family_of(path: Path, texts: Texts, name: str | None = None) -> dict[Path, Outline]:
    """The specs that share what `path` says: its bases, and what extends these, of open texts and the same folders.

    With a name, the specs that share that one: those that extend the first base that has it.
    """
    chain = chain_of(path, texts)
    with_name = [
        each
        for each, outline in chain.items()
        if name is None or any(word.role == "name" and word.shown == name for word in outline.words)
    ]
    root = with_name[-1] if with_name else path
    outlines = dict(chain)
    for each in _files({*texts, *chain}):
        if each not in outlines and (outline := read_outline(each, texts, "extends")) is not None:
            outlines[each] = outline
    bases = {each: base_of(each, outline) for each, outline in outlines.items()}
    family = {root} if root in outlines else set()
    while more := {each for each, base in bases.items() if base in family} - family:
        family |= more
    return {each: outline for each, outline in outlines.items() if each in family}


def _files(paths: Iterable[Path]) -> list[Path]:
    """The specs that are open or lie in a folder with one that is."""
    folders = dict.fromkeys(path.parent for path in paths)
    found = dict.fromkeys(paths)
    for folder in folders:
        try:
            found |= dict.fromkeys(sorted(each for each in folder.iterdir() if each.suffix in SUFFIXES)[:MOST_FILES])
        except OSError:
            continue
    return list(found)
