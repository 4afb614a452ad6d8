"""What a spec says, every key of it resolved: what a configuration is written from."""

from __future__ import annotations

from dataclasses import dataclass

from motc.importing.described import Settings
from motc.lower.by_layer import specs_by_layer
from motc.lower.resolved import resolved
from motc.schema import Checked

NONE = (None, "none")
"""What is said where there is no window, no rotary position, no cap."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """The settings of each layer, and those of the model: of a key that layers say differently, the first layer's that
    has more than none to say."""

    settings: Settings
    by_layer: tuple[Settings, ...]


def said_by(checked: Checked) -> Said:
    """What a spec says, with defaults filled in."""
    known: dict[int, Settings] = {}
    specs = specs_by_layer(checked, [])
    for each in specs:
        if id(each) not in known:
            known[id(each)] = _settings(each)
    settings: Settings = {}
    for of_layer in known.values():
        settings |= {key: value for key, value in of_layer.items() if settings.get(key) in NONE}
    return Said(settings=settings, by_layer=tuple(known[id(each)] for each in specs))


def _settings(checked: Checked) -> Settings:
    settings = {key: value for key, value, _ in resolved(checked)}
    kinds = {key.removesuffix(".kind"): value for key, value in settings.items() if key.endswith(".kind")}
    return {**kinds, **settings}  # what a section's kind is can be said by its name
