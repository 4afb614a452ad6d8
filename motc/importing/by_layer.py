"""What differs from layer to layer: windows and positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from motc.importing.configuration import Configuration
from motc.importing.described import Described
from motc.importing.rows import OneWay
from motc.importing.said import NONE, Said

TYPES = ("full_attention", "sliding_attention")


@dataclass(frozen=True, kw_only=True)
class Window:
    """`sliding_window` in all layers, null for none; `default` where it is missing.

    `switch` is a key that says whether it counts at all.
    """

    default: int | None = None
    switch: str = ""

    def read(self, configuration: Configuration, described: Described) -> None:
        window = said_window(configuration, self.default, self.switch)
        if window is not None:
            described.settings["attention.window"] = window

    def write(self, said: Said) -> dict[str, Any]:
        window = said.settings.get("attention.window")
        window = None if window in NONE else window
        switch = {self.switch: window is not None} if self.switch else {}
        return {"sliding_window": window, **switch}


@dataclass(frozen=True, kw_only=True)
class WindowByLayer:
    """`sliding_window` in the layers that `layer_types` names.

    Without that, `first` is the key of the first layer that has one, with the class's value of it, or `every` that of
    how many layers the last of so many has none, with the class's value, or it is the layers that have no positions.
    """

    default: int | None = None
    switch: str = ""
    first: tuple[str, int] | None = None
    every: tuple[str, int] | None = None
    without_positions: bool = False

    def read(self, configuration: Configuration, described: Described) -> None:
        layers = described.layers
        window = said_window(configuration, self.default, self.switch)
        types = configuration.take("layer_types")
        has_window = [False] * layers
        if types is not None:
            if not isinstance(types, list) or len(types) != layers or not all(each in TYPES for each in types):
                configuration.refuse("layer_types", types, f"{layers} of {' and '.join(TYPES)}")
            has_window = [each == "sliding_attention" for each in types]
            configuration.pass_over(pair[0] for pair in (self.first, self.every) if pair)
        elif self.first:
            first = whole(configuration, *self.first)
            has_window = [window is not None and layer >= first for layer in range(layers)]
        elif self.every:
            every = whole(configuration, *self.every) if self.every[0] else self.every[1]
            has_window = _but_every(every, layers)
        elif self.without_positions:
            has_window = [window is not None and "attention.rope" in each for each in described.by_layer]
        if any(has_window) and window is None:
            configuration.refuse("sliding_window", window, "a whole number where `layer_types` has windows")
        described.differ([{"attention.window": window} if each else {} for each in has_window])

    def write(self, said: Said) -> dict[str, Any]:
        """`layer_types`, and the key that earlier releases have, where it says the same."""
        windows = [None if each["attention.window"] in NONE else each["attention.window"] for each in said.by_layer]
        widths = [*dict.fromkeys(window for window in windows if window is not None)]
        if len(widths) > 1:
            raise ValueError(f"windows of {' and '.join(map(str, widths))}")
        if self.switch and not widths:
            return {self.switch: False}
        has_window = [window is not None for window in windows]
        return {
            "sliding_window": widths[0] if widths else None,
            **({self.switch: True} if self.switch else {}),
            **self._pattern(has_window),
            "layer_types": [TYPES[each] for each in has_window],
        }

    def _pattern(self, has_window: list[bool]) -> dict[str, int]:
        if self.first:
            first = has_window.index(True) if True in has_window else len(has_window)
            return {self.first[0]: first} if all(has_window[first:]) else {}
        if self.every and self.every[0]:
            return _every_said(self.every[0], has_window)
        return {}


@dataclass(frozen=True, kw_only=True)
class PositionsByLayer:
    """SmolLM3's `no_rope_layers`, 0 for a layer without positions, or every so manieth by `no_rope_layer_interval`."""

    interval: int = 4

    def read(self, configuration: Configuration, described: Described) -> None:
        layers = described.layers
        every = whole(configuration, "no_rope_layer_interval", self.interval)
        has = _but_every(every, layers)
        said = configuration.take("no_rope_layers")
        if said:
            if not isinstance(said, list) or len(said) != layers or not all(each in (0, 1) for each in said):
                configuration.refuse("no_rope_layers", said, f"{layers} times 0 or 1")
            has = [bool(each) for each in said]
        _leave_positions(described, has)

    def write(self, said: Said) -> dict[str, Any]:
        has = ["attention.rope.theta" in each for each in said.by_layer]
        interval = _every_said("no_rope_layer_interval", has)  # which other programs look at
        return {**interval, "no_rope_layers": list(map(int, has))}


@dataclass(frozen=True, kw_only=True)
class PositionsInWindows:
    """Layers without a window have no positions; but if `unless_null`, all have them where `sliding_window` is null."""

    unless_null: bool = False

    def read(self, configuration: Configuration, described: Described) -> None:
        if self.unless_null and configuration.values.get("sliding_window", 0) is None:
            return
        _leave_positions(described, ["attention.window" in each for each in described.by_layer])

    def write(self, said: Said) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, kw_only=True)
class CrossLayers(OneWay):
    """Llama 3.2 Vision's `cross_attention_layers`, in which text attends to images and not to itself."""

    what = "layers that attend to images"

    default: tuple[int, ...]

    def read(self, configuration: Configuration, described: Described) -> None:
        said = configuration.take("cross_attention_layers")
        crossing = list(self.default) if said is None else said
        if not isinstance(crossing, list) or not all(type(each) is int for each in crossing):
            configuration.refuse("cross_attention_layers", crossing, "a list of layers")
        if not set(crossing) & set(range(described.layers)):
            configuration.refuse("cross_attention_layers", crossing, f"some of the layers 0 to {described.layers - 1}")
        settings = {
            "attention.qk_norm": "rms",
            "towers.language.attention.cross": "image",
            "towers.language.attention.out_gate": "tanh",
            "towers.language.ffn.out_gate": "tanh",
        }
        described.differ([settings if layer in crossing else {} for layer in range(described.layers)])


def _but_every(every: int, layers: int) -> list[bool]:
    """All layers but every so manieth one."""
    return [(layer + 1) % max(1, every) != 0 for layer in range(layers)]


def _every_said(key: str, has: list[bool]) -> dict[str, int]:
    """The key with the number of which these layers are `_but_every`, if there is one."""
    every = has.index(False) + 1 if False in has else len(has) + 1
    return {key: every} if has == _but_every(every, len(has)) else {}


def _leave_positions(described: Described, has: list[bool]) -> None:
    """Positions are those of the layers that have some, and others have none."""
    rope = described.taken("attention.rope.")
    described.differ([rope if each else {"attention.rope": "none"} for each in has])


def said_window(configuration: Configuration, default: int | None, switch: str) -> int | None:
    """`sliding_window`, unless the switch is off."""
    window = configuration.take("sliding_window", default)
    on = configuration.take(switch, False) if switch else True
    if type(on) not in (bool, type(None)):
        configuration.refuse(switch, on, "true or false")
    if not on or window is None:
        return None
    if type(window) is not int:
        configuration.refuse("sliding_window", window, "a whole number")
    width: int = window
    return width


def whole(configuration: Configuration, key: str, default: int) -> int:
    """A key's whole number."""
    value = configuration.take(key)
    value = default if value is None else value
    if type(value) is not int:
        configuration.refuse(key, value, "a whole number")
    number: int = value
    return number
