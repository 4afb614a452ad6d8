"""Models of several parts: what the configuration of an encoder says of the model, and what parts share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from motc.importing.architecture import ALWAYS, NOTHING, TOKENS
from motc.importing.configuration import Configuration, refused
from motc.importing.described import Described
from motc.importing.rows import OneWay, Row
from motc.importing.said import Said


@dataclass(frozen=True, kw_only=True)
class In:
    """A row about a part of the configuration, of which nothing else is looked at."""

    part: str
    row: Row

    def read(self, configuration: Configuration, described: Described) -> None:
        self.row.read(configuration.part(self.part), described)

    def write(self, said: Said) -> dict[str, Any]:
        return {self.part: self.row.write(said)}


@dataclass(frozen=True, kw_only=True)
class Whole(OneWay):
    """Rows about a part of the configuration, which are all that it may say; `encoders` are parts of it that are not
    looked at any further.
    """

    part: str
    rows: tuple[Row, ...]
    encoders: tuple[str, ...] = ()

    def read(self, configuration: Configuration, described: Described) -> None:
        part = configuration.part(self.part)
        for row in (*self.rows, *ALWAYS):
            row.read(part, described)
        part.pass_over((*self.encoders, *NOTHING))
        for key in part.unread():
            if not key.endswith(TOKENS):
                raise refused(f"{part.file}: motc does not know what `{part.path}{key}` does")


@dataclass(frozen=True, kw_only=True)
class Copied:
    """No key: a setting that is another one."""

    of: str
    ours: str

    def read(self, configuration: Configuration, described: Described) -> None:
        described.settings[self.ours] = described.settings[self.of]

    def write(self, said: Said) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, kw_only=True)
class LastLayers(OneWay):
    """Qwen3-VL's layers of the encoder: of each, vectors are added after one of the model's first layers."""

    what = "encoders"

    name: str
    default: tuple[int, ...]

    def read(self, configuration: Configuration, described: Described) -> None:
        layers = configuration.take(self.name, list(self.default))
        if not isinstance(layers, list):
            configuration.refuse(self.name, layers, "a list of layers")
        if layers:
            described.settings["modalities.image.features.added_after"] = f"0..{len(layers) - 1}"


@dataclass(frozen=True, kw_only=True)
class Tied:
    """`tie_word_embeddings` of the whole and of its text, of which one may be missing."""

    default: bool
    inside: str = "text_config"

    def read(self, configuration: Configuration, described: Described) -> None:
        text = configuration.values.get(self.inside)
        both = [
            configuration.take("tie_word_embeddings"),
            (text if isinstance(text, dict) else {}).get("tie_word_embeddings"),
        ]
        said = [each for each in both if each is not None] or [self.default]
        if type(said[0]) is not bool or said[0] != said[-1]:
            configuration.refuse("tie_word_embeddings", said[0], f"true or false, the same as in {self.inside}")
        described.settings["embedding.tied"] = said[0]

    def write(self, said: Said) -> dict[str, Any]:
        return {"tie_word_embeddings": said.settings["embedding.tied"]}
