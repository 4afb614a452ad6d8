"""Captions made up of names and keywords, of one emoji or of several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from names import Emoji

NAME_ALONE, WITH_KEYWORDS = 0.2, 0.4  # shares of the captions; the others tell of several emoji
MOST_KEYWORDS = 4
SEVERAL = ("{a}, {b}", "{b}, {a}", "{a} + {b}", "{b} ({a})", "{a}, {b}, {c}", "{b} + {a} + {c}", "{c}: {b}, {a}")
SENTENCES = (
    "{a} and {b}",
    "{b} beside {a}",
    "not {b} but {a}",
    "first {a}, then {b}",
    "{a} is left of {b}",
    "{a} comes after {b}",
    "{a} between {b} and {c}",
    "neither {b} nor {c}: {a}",
    "{b} looks at {a}",
    "no {b} without {a}",
    "two of {b} and one {a}",
    "{a} for {b} and {c}",
)  # in English


def caption(chosen: Emoji, others: Sequence[Emoji], language: str, generator: np.random.Generator) -> str:
    """A caption of the emoji `chosen`, which may tell of the two `others` as well."""
    name, kind = chosen.names[language], generator.random()
    if kind < NAME_ALONE:
        return name
    keywords = chosen.keywords[language]
    if kind < NAME_ALONE + WITH_KEYWORDS and keywords:
        count = int(generator.integers(1, min(MOST_KEYWORDS, len(keywords)) + 1))
        return f"{name}: {', '.join(generator.permutation(keywords)[:count])}"
    patterns = (*SEVERAL, *SENTENCES) if language == "en" else SEVERAL
    b, c = (other.names[language] for other in others)
    return patterns[generator.integers(len(patterns))].format(a=name, b=b, c=c)
