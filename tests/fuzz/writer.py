"""What writers of random specs keep in mind, and how they draw."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

from motc.ir.execution import Strategy
from tests.fuzz.groups import DOWN, QKV


@dataclass
class Writer:
    """Draws what one spec says, keeping in mind what its parts ask of each other."""

    draw: st.DrawFn
    strategy: Strategy
    lines: list[str] = field(default_factory=list)
    apart: dict[str, list[list[str]]] = field(default_factory=dict)
    """Groups whose copies must not be shared between these blocks of modalities."""
    grouped: bool = False
    """Whether experts are in groups."""
    axes: int = 1
    """On how many axes positions are."""
    tokens_choose: bool = False
    """Whether all have mixtures of experts and choose alike, so that routers are untied freely."""
    absent: set[str] = field(default_factory=set)
    """Groups that no modality has."""
    prefix: set[str] = field(default_factory=set)
    """Names in a prefix."""
    conditioned: str = ""
    """The modality with a condition, by which norms are adaptive, if there is one."""
    narrow: bool = False
    """Whether the condition says a width of its own."""
    around: bool = False
    """Whether feed-forwards are added to what came into a layer."""
    final_adaptive: bool = False
    """Whether it is said by whom the final norm is adaptive."""
    reading: list[str] = field(default_factory=list)
    """Towers that read others."""
    denoised: list[str] = field(default_factory=list)
    """Modalities with latents."""
    beside: bool = False
    """Whether some layers may have their sublayers side by side, or not."""
    hides: bool = False
    """Whether noised spans are hidden."""
    low: bool = False
    """Whether keys and values are of low rank."""
    own: bool = False
    """Whether vocabularies are each modality's own."""
    widths: bool = False
    """Whether towers differ in width."""
    rotates: bool = True
    """Whether there are rotary positions."""
    thetas: bool = False
    """Whether each axis has a theta of its own."""
    learned: bool = False
    """Whether there is a table of positions."""
    gated: bool = False
    """Whether what attention makes is gated."""
    mixed: bool = False
    """Whether somebody has a mixture of experts."""
    tied: bool = False
    """Whether the head is the embedding's table."""
    layers: int = 1
    names: list[str] = field(default_factory=list)
    """The modalities."""
    continuous: list[str] = field(default_factory=list)
    """Those that have no ids."""
    towers: list[list[str]] = field(default_factory=list)
    """The modalities of each tower."""
    tower_names: list[str] = field(default_factory=list)
    """What towers are called that are declared."""

    def pick(self, *choices: str) -> str:
        return self.draw(st.sampled_from(choices))

    def chance(self, of: int) -> bool:
        """True once in `of` times; shrinks to false."""
        return self.draw(st.integers(0, of - 1)) == of - 1

    def some(self, names: list[str], least: int = 1) -> list[str]:
        """Some of the names, in their order."""
        chosen = self.draw(st.sets(st.sampled_from(names), min_size=least))
        return [name for name in names if name in chosen]

    def cells(self, names: list[str]) -> list[list[str]]:
        """A random partition."""
        numbers = [self.draw(st.integers(0, len(names) - 1)) for _ in names]
        return [[n for n, at in zip(names, numbers, strict=True) if at == cell] for cell in dict.fromkeys(numbers)]

    @property
    def maps(self) -> tuple[str, ...]:
        """The groups that make queries, keys and values."""
        return (*DOWN, *QKV) if self.low else QKV
