"""The names of emoji in several languages, in groups of which none shares a name, a look or a base with another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import emoji
import numpy as np
from annotations import VARIATION, Annotation
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

LANGUAGES = ("en", "es", "pt", "it", "fr", "de", "id", "tr", "ru")  # espeak-ng speaks them, emoji names them
HELD_OUT_SHARE = 0.05  # of the groups
SPLIT_SEED = 0
TONES = re.compile("[\U0001f3fb-\U0001f3ff\ufe0f]")
TONE_WORDS = re.compile(r" (light|medium-light|medium|medium-dark|dark) skin tone")


@dataclass(frozen=True, slots=True, kw_only=True)
class Emoji:
    """Its characters, and its name in each language, with the words that tell of it where those are known."""

    characters: str
    names: dict[str, str]
    keywords: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def labels(self) -> set[str]:
        """What two emoji must not share if they are to be apart: base characters, base name, a name in any language."""
        base = TONES.sub("", self.characters)
        return {f"characters {base}", f"base {TONE_WORDS.sub('', self.names['en'])}", *self.names.values()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Groups of emoji to train on, and groups never seen in training."""

    training: tuple[tuple[Emoji, ...], ...]
    held_out: tuple[tuple[Emoji, ...], ...]


def list_emoji() -> list[Emoji]:
    """Every fully qualified emoji that has a name in each language."""
    for language in LANGUAGES[1:]:
        emoji.config.load_language(language)
    return [
        Emoji(
            characters=characters,
            names={language: entry[language].strip(":").replace("_", " ").lower() for language in LANGUAGES},
        )
        for characters, entry in emoji.EMOJI_DATA.items()
        if entry["status"] == emoji.STATUS["fully_qualified"] and all(language in entry for language in LANGUAGES)
    ]


def list_annotated(annotations: Mapping[str, Mapping[str, Annotation]]) -> list[Emoji]:
    """Every fully qualified emoji that CLDR names in each language."""
    listed = []
    for characters, entry in emoji.EMOJI_DATA.items():
        short = characters.replace(VARIATION, "")
        if entry["status"] == emoji.STATUS["fully_qualified"] and all(short in told for told in annotations.values()):
            mine = {language: told[short] for language, told in annotations.items()}
            names = {language: each.name for language, each in mine.items()}
            keywords = {language: each.keywords for language, each in mine.items()}
            listed.append(Emoji(characters=characters, names=names, keywords=keywords))
    return listed


def group(listed: list[Emoji]) -> list[tuple[Emoji, ...]]:
    """Emoji that share a label, directly or by way of others, together: skin tones with their base, for one."""
    places: dict[str, int] = {}
    pairs = [
        (number, len(listed) + places.setdefault(label, len(places)))
        for number, each in enumerate(listed)
        for label in sorted(each.labels())
    ]
    rows, columns = zip(*pairs, strict=True)
    size = len(listed) + len(places)
    _, components = connected_components(coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(size, size)))
    groups: dict[int, list[Emoji]] = {}
    for each, component in zip(listed, components.tolist(), strict=False):
        groups.setdefault(component, []).append(each)
    return [tuple(members) for members in groups.values()]


def split(groups: list[tuple[Emoji, ...]]) -> Split:
    """One in twenty groups, drawn from a fixed seed, is held out."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(groups)).tolist()
    held_out = set(order[: round(HELD_OUT_SHARE * len(groups))])
    return Split(
        training=tuple(members for number, members in enumerate(groups) if number not in held_out),
        held_out=tuple(members for number, members in enumerate(groups) if number in held_out),
    )


def without_held_out(parts: Split) -> Split:
    """The same, but that no keyword of an emoji to train on is the name of one held out, in any language."""
    unseen = {name for members in parts.held_out for each in members for name in each.names.values()}

    def clean(each: Emoji) -> Emoji:
        keywords = {
            language: tuple(word for word in words if word not in unseen) for language, words in each.keywords.items()
        }
        return replace(each, keywords=keywords)

    return replace(parts, training=tuple(tuple(map(clean, members)) for members in parts.training))
