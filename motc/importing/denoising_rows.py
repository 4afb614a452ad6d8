"""Rows of classes of diffusers: sizes that are products, blocks that are several layers, and what must be as it is.

Nothing writes these classes: their rows are read alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from motc.importing.architecture import Architecture
from motc.importing.configuration import Configuration
from motc.importing.described import Described
from motc.importing.rows import Key, OneWay
from motc.schema.values import MAX_LAYERS

LATENT, CONDITION, FEATURES = "modalities.image.latent", "modalities.image.condition", "modalities.text.features"
CHANNELS = f"{LATENT}.channels"
FULL = {"attention.mask": "full"}


@dataclass(frozen=True, kw_only=True)
class Denoiser(Architecture):
    """A class of diffusers: it predicts what a latent is made of, and no logits."""

    modality: str | None = None


class OfDiffusers(OneWay):
    """A row of these classes."""

    what = "classes of diffusers"


@dataclass(frozen=True, kw_only=True)
class Heads(OfDiffusers):
    """`num_attention_heads` times `attention_head_dim`, the width; the numbers are the class's."""

    heads: int
    head_dim: int

    def read(self, configuration: Configuration, described: Described) -> None:
        heads = number(configuration, "num_attention_heads", self.heads)
        head_dim = number(configuration, "attention_head_dim", self.head_dim)
        described.settings |= {"width": heads * head_dim, "attention.heads": heads, "attention.head_dim": head_dim}


@dataclass(frozen=True, kw_only=True)
class Times(OfDiffusers):
    """No key: a setting that is so many times another one, or times what it was."""

    ours: str
    of: str
    by: int

    def read(self, configuration: Configuration, described: Described) -> None:
        described.settings[self.ours] = self.by * described.settings[self.of]


FOUR_TIMES = Times(ours="ffn.hidden", of="width", by=4)


@dataclass(frozen=True, kw_only=True)
class Same(OfDiffusers):
    """A key that must be what a setting is, times `by`; `default` is the class's, and null may be as good."""

    name: str
    of: str
    default: int | None = None
    by: int = 1

    def read(self, configuration: Configuration, described: Described) -> None:
        value, wanted = configuration.take(self.name, self.default), self.by * described.settings[self.of]
        if self.default is None and value is None:
            return
        if type(value) is not int or value != wanted:
            configuration.refuse(self.name, value, f"{wanted}, as its other keys are")


@dataclass(frozen=True, kw_only=True)
class Packed(OfDiffusers):
    """The channels of patches of 2 x 2, which a pipeline makes: a quarter as many are a latent's."""

    default: int

    def read(self, configuration: Configuration, described: Described) -> None:
        channels = number(configuration, "in_channels", self.default)
        if channels % 4:
            configuration.refuse("in_channels", channels, "a multiple of 4, the channels of 2 x 2 places")
        described.settings[CHANNELS] = channels // 4


@dataclass(frozen=True, kw_only=True)
class Axes(OfDiffusers):
    """The components of each axis that rotate; `default` is the class's."""

    name: str
    default: tuple[int, ...]

    def read(self, configuration: Configuration, described: Described) -> None:
        told = f"{len(self.default)} whole numbers"
        described.settings["attention.rope.axes"] = numbers(configuration, self.name, self.default, told)


@dataclass(frozen=True, kw_only=True)
class Variances(OfDiffusers):
    """`out_channels`: as many as come in, or twice as many, of which half are of variances; null for as many."""

    default: int | None = None

    def read(self, configuration: Configuration, described: Described) -> None:
        channels = described.settings[CHANNELS]
        out = configuration.take("out_channels", self.default)
        if out not in (None, channels, 2 * channels):
            configuration.refuse("out_channels", out, f"{channels} or {2 * channels}")
        if out == 2 * channels:
            described.settings[f"{LATENT}.objective.variance"] = "learned"


@dataclass(frozen=True, kw_only=True)
class Together(OfDiffusers):
    """What a few keys come to, by a function of the class."""

    of: Callable[[Configuration, Described], None]

    def read(self, configuration: Configuration, described: Described) -> None:
        self.of(configuration, described)


def number(configuration: Configuration, key: str, default: int) -> int:
    """A key's whole number, which is above 0."""
    value = configuration.take(key, default)
    if type(value) is not int or not 1 <= value <= 1 << 40:
        configuration.refuse(key, value, "a whole number above 0")
    count: int = value
    return count


def numbers(configuration: Configuration, key: str, default: Sequence[int], told: str) -> list[int]:
    """A key's list of as many whole numbers as the class's; `told` says so."""
    values: list[int] = configuration.take(key, list(default))
    if not isinstance(values, list) or len(values) != len(default) or not all(type(each) is int for each in values):
        configuration.refuse(key, values, told)
    return values


def layers(name: str, default: int) -> Key:
    return Key(name=name, default=default, ours="layers", most=MAX_LAYERS)


def size_of_words(name: str, default: int, ours: str = FEATURES) -> Key:
    return Key(name=name, default=default, ours=f"{ours}.size")


def channels(default: int, ours: str = LATENT) -> Key:
    return Key(name="in_channels", default=default, ours=f"{ours}.channels")


def patch(default: int = 2) -> Key:
    return Key(name="patch_size", default=default, ours=f"{LATENT}.patch", most=1024)


def eps(name: str, default: float) -> Key:
    return Key(name=name, default=default, ours="norm.eps", kind=float)


def two_kinds(configuration: Configuration, described: Described, defaults: Mapping[str, int]) -> tuple[str, str]:
    """Of the keys of two numbers of blocks, with the class's: the layers of each kind, one behind the other."""
    first, others = (number(configuration, key, default) for key, default in defaults.items())
    if first + others > MAX_LAYERS:
        configuration.refuse([*defaults][1], others, f"{MAX_LAYERS} layers at most in all")
    described.settings["layers"] = first + others
    return span(0, first), span(first, first + others)


def span(start: int, end: int) -> str:
    """Layers from one up to before another, as a spec names them."""
    return f"{start}..{end - 1}"


def blocks_of_three(
    configuration: Configuration, described: Described, default: int, words: str
) -> list[dict[str, Any]]:
    """`num_layers` blocks, of attention, of attention to words, and of a feed-forward, each a layer: what is said of
    these.
    """
    blocks = number(configuration, "num_layers", default)
    if 3 * blocks > MAX_LAYERS:
        configuration.refuse("num_layers", blocks, f"at most {MAX_LAYERS // 3}")
    described.settings["layers"] = count = 3 * blocks
    crossing = {"attention": {"cross": words}, "ffn": "none", "norm": {"adaptive": "none"}}
    of_picture = ({"ffn": "none"}, crossing, {"attention": "none"})
    return [
        {"layers": f"{first}..{count - 1} step 3", "towers": {"picture": said}} for first, said in enumerate(of_picture)
    ]
