"""Selectors of parameters: those of `untie`, of a tower or of some layers alone.

attention.q, *.norm              these groups, of all towers; attention, ffn and norm are the sections of a spec
image.*                          all that tower image, or modality image, has to itself
text.ffn in layers 0..3          tower text's own feed-forwards in the first four layers
*.bias                           the biases of all groups; weights likewise
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from motc.ir.inventory import LAYER_PATHS, OUTER_GROUPS, SECTIONS
from motc.lower.selectors import paths_of
from motc.schema.mistake import Mistake
from motc.schema.values import LayerNumbers, layer_range
from motc.source.nearest import suggestion
from motc.training.copies import Copies, Copy, Trained

EVERY_PATH = LAYER_PATHS + tuple(group.path for group in OUTER_GROUPS)
ENDINGS = ("weight", "bias")
_LAYERS = re.compile(r"(.*?)\s+in\s+layers?\s+(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Groups by their paths, of one tower or of all, in some layers or everywhere; of a copy one parameter or all."""

    text: str
    paths: tuple[str, ...]
    tower: str | None
    layers: LayerNumbers | None
    ending: str | None

    def chooses(self, copy: Copy, towers: dict[str, tuple[str, ...]]) -> bool:
        """Whether a copy is one of those meant. What a tower shares with others is not."""
        if self.layers is not None and copy.layer not in self.layers.numbers:
            return False
        if self.tower is not None and not set(copy.modalities) <= set(towers[self.tower]):
            return False
        return copy.path in self.paths


def select(trained: Trained, selectors: tuple[str, ...]) -> dict[str, Copy]:
    """The names of the parameters that some of these selectors mean, with the copies they are in, in the model's order.

    Raises ValueError where one of them means none, or is none.
    """
    if not selectors:
        raise ValueError('a selector is missing: "*" means all parameters, "image.*" those of a tower')
    chosen: set[str] = set()
    for selector in (each for text in selectors for each in read_selectors(text, trained)):
        names = {name for copy, name in _meant(trained, selector)}
        if not names:
            raise ValueError(_why_none(trained, selector))
        chosen |= names
    return {name: copy for copy, theirs in trained.parameters.items() for name in theirs if name in chosen}


def read_selectors(text: str, of: Copies) -> list[Selector]:
    """The selectors of a text: of several with commas between them, `in layers` holds for all. Raises ValueError."""
    if not isinstance(text, str):
        raise TypeError(f"a selector is a text, such as image.*, and not {text!r}")
    match = _LAYERS.fullmatch(text.strip())
    groups, layers = (match[1], _layers(match[2].strip(), text, of)) if match else (text, None)
    words = [word.strip() for word in groups.split(",")]
    if any(not re.fullmatch(r"\S+", word) for word in words):
        raise ValueError(f"`{text}` is no selector; one is such as image.*, attention.q or text.ffn in layers 0..3")
    return [_read(word, layers, of) for word in words]


def _layers(said: str, text: str, of: Copies) -> LayerNumbers:
    try:
        layers: LayerNumbers = layer_range(int(said) if said.isdecimal() else said)
    except Mistake as mistake:
        raise ValueError(f"`{text}`: {mistake}; {mistake.way_out}") from None
    if layers.last >= of.model.layers:
        raise ValueError(f"`{text}`: the model has layers 0..{of.model.layers - 1}")
    return layers


def _read(word: str, layers: LayerNumbers | None, of: Copies) -> Selector:
    """One selector. A word that is a group's or a section's means that; any other begins with a tower's."""
    said, ending = word, None
    if "." in word and word.rpartition(".")[2] in ENDINGS:
        said, _, ending = word.rpartition(".")
    tower, paths = None, paths_of(said, EVERY_PATH)
    if not paths:
        tower, _, rest = said.partition(".")
        paths = paths_of(rest or "*", EVERY_PATH)
        groups = [*SECTIONS, *sorted({copy.path for copy in of.copies})]
        if tower not in of.towers:
            words = [*groups, *(f"{name}.*" for name in of.towers), *(f"{name}.{rest}" for name in of.towers)]
            otherwise = f"towers: {', '.join(of.towers)}; groups: {', '.join(groups)}"
            raise ValueError(f"`{word}` names no group and no tower; {suggestion(said, words, otherwise)}")
        if not paths:
            words = [f"{tower}.{group}" for group in groups]
            way_out = suggestion(said, words, f"groups: {', '.join(groups)}")
            raise ValueError(f"`{word}` names no group; {way_out}")
    return Selector(text=word, paths=paths, tower=tower, layers=layers, ending=ending)


def _meant(trained: Trained, selector: Selector) -> Iterator[tuple[Copy, str]]:
    for copy, parameters in trained.parameters.items():
        if selector.chooses(copy, trained.towers):
            for name in parameters:
                if selector.ending in (None, name.rpartition(".")[2]):
                    yield copy, name


def _why_none(trained: Trained, selector: Selector) -> str:
    """Why a selector means no parameter, with a way out."""
    here = [copy for copy in trained.copies if copy.path in selector.paths]
    if not here:
        groups = ", ".join(sorted({copy.path for copy in trained.copies}))
        return f"`{selector.text}` matches nothing: this model has no {selector.paths[0]}; its groups: {groups}"
    if selector.layers is not None and all(copy.layer is None for copy in here):
        return f"`{selector.text}` matches nothing: {here[0].path} is outside the layers; leave `in layers` out"
    if selector.tower is not None:
        theirs = set(trained.towers[selector.tower])
        shared = [copy for copy in here if theirs & set(copy.modalities)]
        if shared and not any(set(copy.modalities) <= theirs for copy in shared):
            copy = shared[0]
            return (
                f"`{selector.text}` matches nothing: {copy.path} is shared by {', '.join(copy.modalities)}; "
                f"`{copy.name + '.' if copy.name else ''}{copy.path}` means that copy"
            )
    if selector.ending is not None:
        return f"`{selector.text}` matches nothing: there is no {selector.ending}"
    return f"`{selector.text}` matches nothing" + (" in these layers" if selector.layers else "")
