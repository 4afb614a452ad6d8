"""Rotary positions: keys at the top, as transformers 4 has them, or gathered in `rope_parameters`, as 5 has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from motc.importing.configuration import Configuration
from motc.importing.described import Described, Settings
from motc.importing.said import NONE, Said

SCALINGS: Mapping[str, Mapping[str, str]] = {
    "default": {},
    "linear": {"factor": "factor"},
    "dynamic": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "low_freq_factor": "low_freq_factor",
        "high_freq_factor": "high_freq_factor",
        "original_max_position_embeddings": "original_length",
    },
    "yarn": {
        "factor": "factor",
        "original_max_position_embeddings": "original_length",
        "beta_fast": "beta_fast",
        "beta_slow": "beta_slow",
        "attention_factor": "attention_factor",
        "truncate": "truncate",
    },
}
"""Kinds of scaling: what a configuration calls their keys, and what a spec does."""

SCALING = "attention.rope.scaling"

TURNS = {"beta_fast": 32.0, "beta_slow": 1.0}
"""What is taken for those of yarn that are not said; some programs want to be told."""


@dataclass(frozen=True, kw_only=True)
class Rope:
    """The keys of rotary positions.

    `theta` and `fraction` are the class's, where `theta_key` and `fraction_key` are missing; without the latter whole
    heads turn. `sections` are those of several axes where a class has some, which it lets turn as `arrangement` says.
    `scalings` are the kinds that it has; one where they `must_be_said` has a scaling of its own where nothing is.
    """

    theta: float = 10000.0
    theta_key: str = "rope_theta"
    fraction_key: str = ""
    fraction: float = 1.0
    sections: tuple[int, ...] = ()
    needs_sections: bool = False
    arrangement: Literal["split", "interleaved", "spatial_first"] = "split"
    scalings: tuple[str, ...] = tuple(SCALINGS)
    must_be_said: bool = False

    def read(self, configuration: Configuration, described: Described) -> None:
        theta = configuration.take(self.theta_key, self.theta)
        fraction = configuration.take(self.fraction_key, self.fraction) if self.fraction_key else 1.0
        part = said_rope(configuration)
        if self.must_be_said and not part.values:
            configuration.refuse("rope_scaling", None, "an object: without one the class has a scaling of its own")
        described.settings |= self.one(part, described, configuration, theta, fraction)

    def one(
        self, part: Configuration, described: Described, above: Configuration, theta: Any, fraction: Any = 1.0
    ) -> Settings:
        """The settings of one set of keys, with what is said above them."""
        settings: Settings = {"attention.rope.theta": number(part, "rope_theta", theta)}
        if fraction is None:
            fraction = self.fraction
        turned = number(part, "partial_rotary_factor", fraction)
        if turned != 1 and not self.fraction_key:
            part.refuse("partial_rotary_factor", turned, "1")
        settings["attention.rope.fraction"] = turned
        if self.sections or self.needs_sections:
            settings |= self._axes(part)
        scaling = self._scaling(part, above)
        if scaling:
            settings[SCALING] = scaling
        for key in part.unread():
            part.refuse(key, part.values[key], "no such key here")
        return settings

    def _axes(self, part: Configuration) -> Settings:
        sections = part.take("mrope_section", list(self.sections) or None)
        if not isinstance(sections, list) or len(sections) != 3 or not all(type(each) is int for each in sections):
            part.refuse("mrope_section", sections, "three whole numbers")
        interleaved = part.take("mrope_interleaved")
        if interleaved not in (None, self.arrangement == "interleaved"):
            part.refuse("mrope_interleaved", interleaved, str(self.arrangement == "interleaved").lower())
        if self.arrangement == "spatial_first":  # rows, columns, time
            sections = [sections[2], *sections[:2]]
        return {"attention.rope.sections": sections, "attention.rope.arrangement": self.arrangement}

    def _scaling(self, part: Configuration, above: Configuration) -> Settings | None:
        kind = part.take("rope_type")
        older = part.take("type")
        kind = older if kind is None else kind
        kind = "default" if kind is None or (kind == "mrope" and (self.sections or self.needs_sections)) else kind
        if kind not in self.scalings:
            part.refuse("rope_type", kind, " or ".join(self.scalings))
        if kind == "default":
            return None
        scaling: Settings = {"kind": kind}
        for theirs, ours in SCALINGS[kind].items():
            value = part.take(theirs)
            if theirs == "truncate":
                if type(value) not in (bool, type(None)):
                    part.refuse(theirs, value, "true or false")
            elif value is not None:
                value = number(part, theirs, value)
            if value is not None:
                scaling[ours] = value
        if "factor" not in scaling:
            part.refuse("factor", None, "a number")
        if kind != "linear" and "original_length" not in scaling:
            length = above.values.get("max_position_embeddings")
            if type(length) is not int:
                above.refuse("max_position_embeddings", length, f"a whole number, for `{kind}` scaling")
            scaling["original_length"] = length
        return scaling

    def write(self, said: Said) -> dict[str, Any]:
        """The keys at the top, which transformers 4 and 5 read, and most other programs."""
        return self.keys(said.settings)

    def keys(self, settings: Settings) -> dict[str, Any]:
        """The same, of settings. Raises ValueError."""
        if "attention.rope.theta" not in settings or self.sections or self.needs_sections:
            raise ValueError("rotary positions that the class does not have")
        keys: dict[str, Any] = {self.theta_key: settings["attention.rope.theta"]}
        fraction = settings["attention.rope.fraction"]
        if self.fraction_key:
            keys[self.fraction_key] = fraction
        elif fraction != 1:
            raise ValueError(f"attention.rope.fraction = {fraction}")
        scaling = section(settings, SCALING)
        if scaling:
            names = SCALINGS[scaling["kind"]]
            scaling = {**(TURNS if scaling["kind"] == "yarn" else {}), **_without_none(scaling)}
            said = {key: scaling[ours] for key, ours in names.items() if ours in scaling}
            keys["rope_scaling"] = {"rope_type": scaling["kind"], **said}
        elif self.must_be_said:
            keys["rope_scaling"] = {"rope_type": "default"}
        return keys


@dataclass(frozen=True, kw_only=True)
class RopeByLayerType(Rope):
    """Gemma 3's: layers with a window turn by a theta of their own, without scaling.

    `in_parts`: a class that has `rope_parameters` by layer type alone, and no key for that theta.
    """

    local_theta: float = 10000.0
    in_parts: bool = False

    def read(self, configuration: Configuration, described: Described) -> None:
        everywhere, local = configuration.take("rope_theta", self.theta), None
        if not self.in_parts:
            local = configuration.take("rope_local_base_freq")
        scaled = configuration.part("rope_scaling")
        both = configuration.part("rope_parameters")
        whole, windowed = both.part("full_attention"), both.part("sliding_attention")
        for key in both.unread():
            both.refuse(key, both.values[key], "full_attention and sliding_attention")
        if scaled.values:
            scaled.values = {**whole.values, **scaled.values}
            whole = Configuration(configuration.file, scaled.values, scaled.path)
        of_whole = self.one(whole, described, configuration, everywhere)
        of_windowed = self.one(windowed, described, configuration, self.local_theta if local is None else local)
        described.differ([of_windowed if "attention.window" in each else of_whole for each in described.by_layer])

    def write(self, said: Said) -> dict[str, Any]:
        """The keys at the top, as Gemma 3 was published with; of layers that there are not the class's own."""
        whole, windowed = (
            next((each for each in said.by_layer if (each["attention.window"] in NONE) == is_whole), None)
            for is_whole in (True, False)
        )
        if self.in_parts:
            both = {"full_attention": whole, "sliding_attention": windowed}
            return {"rope_parameters": {kind: self._part(each) for kind, each in both.items() if each is not None}}
        keys = {} if whole is None else self.keys(whole)
        if windowed is not None:
            if section(windowed, SCALING):
                raise ValueError("positions are scaled in layers with a window")
            keys["rope_local_base_freq"] = self.keys(windowed)[self.theta_key]
        return keys

    def _part(self, settings: Settings) -> dict[str, Any]:
        """The keys of one layer type."""
        keys = self.keys(settings)
        return {"rope_type": "default", **keys.pop("rope_scaling", {}), **keys}


def said_rope(configuration: Configuration) -> Configuration:
    """Where positions are said: `rope_scaling`, or else `rope_parameters`, as transformers chooses."""
    older, newer = configuration.part("rope_scaling"), configuration.part("rope_parameters")
    return older if older.values else newer


def number(part: Configuration, key: str, default: Any) -> float:
    """A key's number, or a default that is one."""
    value = part.take(key)
    value = default if value is None else value
    if type(value) not in (int, float):
        part.refuse(key, value, "a number")
    whole: float = value
    return whole


def _without_none(scaling: Settings) -> Settings:
    return {key: value for key, value in scaling.items() if value not in NONE}


def section(settings: Settings, name: str) -> dict[str, Any]:
    """The settings within a section, by their last keys; empty if there is none."""
    value = settings.get(name)
    if isinstance(value, dict):
        return value
    return {key.removeprefix(f"{name}."): of for key, of in settings.items() if key.startswith(f"{name}.")}
