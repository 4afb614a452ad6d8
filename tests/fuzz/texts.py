"""Random texts: specs with something cut out, put in or moved, most of them wrong."""

from __future__ import annotations

import re
from collections.abc import Callable

from hypothesis import strategies as st

from motc.source import SourceFile
from motc.syntax import Syntax, read, write
from tests.fuzz.specs import drawn_specs

WORDS = (
    *"model modality tower untie as in layers layer extends true false none null vocab width heads causal".split(),
    *"full 0 1 -1 3".split(),
    *"0..1 3..1 1e999 0x10 1_000 nan inf moe top_k expert_choice latent unet * ** ffn.* attention. text".split(),
    *"image t0 x".split(),
    *"{ } [ ] ( ) = == , ; : .. # \" ' \\ é \u0000 \u200b \u202e - & ! | > ? % @ `".split(),
    *("\n", "  ", "\t", '"a.mot"', '"\\u0000"', "9" * 30, "x" * 70, "[" * 60, "{ a " * 40),
)


@st.composite
def random_texts(draw: st.DrawFn) -> tuple[str, Syntax]:
    """A text and the syntax it is to be read in: what becomes of a right spec, or something else altogether."""
    syntax: Syntax = draw(st.sampled_from(("mot", "yaml")))
    if draw(st.integers(0, 3)) == 0:
        return " ".join(draw(st.lists(st.sampled_from(WORDS), max_size=30))), syntax
    text = draw(drawn_specs()).text
    if syntax == "yaml":
        text = write(read(SourceFile("random.mot", text)), "yaml")
    pieces = re.findall(r"\w+|\s+|[^\w\s]", text)
    for _ in range(draw(st.integers(1, 4))):
        mutate(draw, pieces)
    return "".join(pieces), syntax


def mutate(draw: st.DrawFn, pieces: list[str]) -> None:
    """Replace, double or leave out one of the pieces, exchange it with another, or put something before it."""
    place, other = (draw(st.integers(0, len(pieces) - 1)) for _ in range(2))
    how = draw(st.sampled_from(("replace", "drop", "double", "exchange", "insert")))
    alter(pieces, how, place, other, lambda: draw(st.sampled_from(WORDS)))


def alter(pieces: list[str], how: str, place: int, other: int, word: Callable[[], str]) -> None:
    """Do one thing to the piece at a place; `other` is where another is, and `word` draws a new one."""
    match how:
        case "replace":
            pieces[place] = word()
        case "drop":
            pieces[place] = ""
        case "double":
            pieces.insert(place, pieces[place])
        case "exchange":
            pieces[place], pieces[other] = pieces[other], pieces[place]
        case "copy":
            pieces[place] = pieces[other]
        case "insert":
            pieces.insert(place, f" {word()} ")
        case _:
            raise AssertionError(how)
