"""Where names and keys stand, in a spec and in those that it extends or that extend it; and other names for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from motc.lsp.outline import Outline, Word
from motc.schema.keys import field_at, names_modalities
from motc.schema.mistake import Mistake
from motc.schema.names import check_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A range of a file's text; the text's beginning where a file as a whole is meant."""

    outline: Outline
    start: int = 0
    end: int = 0

    @property
    def path(self) -> Path:
        return Path(self.outline.source.name)


def is_name(word: Word) -> bool:
    """Whether a word names a modality or a tower, declared or referred to: all have one space of names."""
    if word.role == "name":
        return True
    if not names_modalities(word.path) or (word.shown == "none" and word.role == "value"):
        return False
    return word.role == "value" or field_at(word.path) is None


def definitions(chain: Sequence[Outline], word: Word) -> tuple[Place, ...]:
    """Where a word leads: `chain` is the text that it stands in, and those that this extends, nearest first.

    A name leads to its declarations, a key to where a base says it, a selector to the section that its group follows
    from, and the path of a base to that spec.
    """
    if word.path == ("extends",):
        return tuple(Place(outline=each) for each in chain[1:2])
    if is_name(word):
        for outline in chain:
            named = [each for each in outline.words if each.role == "name" and each.shown == word.shown]
            if declared := [each for each in named if each.path[0] in ("modalities", "towers")]:
                return tuple(place_of(outline, each) for each in declared)
        return ()
    if word.path[:1] == ("untie",) and word.path[2:3] == ("groups",):
        return _first(chain, (word.shown.split(".")[0],))
    return _first(chain[1:], word.path)


def references(family: Iterable[Outline], word: Word) -> tuple[Place, ...]:
    """Every place that says the same name, or the same key, in a text and its relatives."""
    return tuple(place_of(outline, each) for outline in family for each in outline.words if _is_same(word, each))


def rename(family: Sequence[Outline], word: Word, name: str) -> tuple[Place, ...]:
    """The places of a modality's or tower's name, to be written anew. Raises ValueError that says why it cannot be."""
    if not is_name(word):
        raise ValueError(f"`{word.shown}` is the name of no modality and of no tower")
    try:
        check_name(name)
    except Mistake as mistake:
        raise ValueError(f"{mistake}; {mistake.way_out}") from None
    if name != word.shown and any(each.role == "name" and each.shown == name for one in family for each in one.words):
        raise ValueError(f"there is a modality or a tower `{name}` already")
    return references(family, word)


def _is_same(word: Word, other: Word) -> bool:
    if is_name(word):
        return other.shown == word.shown and is_name(other)
    return other.role == "key" and other.path == word.path


def _first(chain: Iterable[Outline], path: tuple[str | int, ...]) -> tuple[Place, ...]:
    return next(((place_of(outline, outline.keys[path]),) for outline in chain if path in outline.keys), ())


def place_of(outline: Outline, word: Word) -> Place:
    """A word's place, within its quotes."""
    quoted = len(word.text) - len(word.shown) == 2
    return Place(outline=outline, start=word.start + quoted, end=word.end - quoted)
