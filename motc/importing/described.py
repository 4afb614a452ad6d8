"""What a configuration says, in the words of a spec, and the text of that spec."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from motc.driver import compile_ir
from motc.ir.identity import semantic_hash
from motc.source import SourceFile, SpecError
from motc.syntax import convert
from motc.syntax.given import spec_source

Settings = dict[str, Any]
"""Values by the dotted keys of a spec, such as `attention.rope.theta`."""

MAY_GO = ("attention.window", "attention.rope.scaling")
"""What some layers may lack that others have; of other keys they say another value."""

NEVER_GOES = '"towers.language.attention.cross"'
"""What a layer cannot be without if the model says it, so that only layers do."""

ORDER = """
width layers vocab modalities positions attention ffn norm parallel embedding head towers by_layer untie
kind hidden expert heads kv_heads head_dim value_dim low_rank bias out_bias scale softcap qk_norm qk_norm_eps window
mask rope theta
""".split()
"""In which order a spec says keys, within a section too; others follow."""


def name_from(words: str) -> str:
    """A name of a spec, from that of a file or a folder."""
    name = re.sub(r"\W+", "_", words.lower(), flags=re.ASCII).strip("_") or "imported"
    return name if name[0].isalpha() else f"model_{name}"


@dataclass(kw_only=True)
class Described:
    """Settings of the model, those of each layer, statements that untie, and what is not taken over, to be told."""

    settings: Settings
    by_layer: list[Settings] = field(default_factory=list)
    statements: Settings = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def layers(self) -> int:
        count: int = self.settings["layers"]
        return count

    def taken(self, prefix: str) -> Settings:
        """The model's settings whose keys begin so, which it has no longer: they are to be those of layers."""
        return {key: self.settings.pop(key) for key in list(self.settings) if key.startswith(prefix)}

    def differ(self, by_layer: list[Settings]) -> None:
        """Settings of each layer, beside those that layers have already."""
        before = self.by_layer or [{}] * len(by_layer)
        self.by_layer = [{**one, **other} for one, other in zip(before, by_layer, strict=True)]

    def source(self, source_name: str, name: str = "it") -> SourceFile:
        """A spec that says this, with every key; its places are in a text called after `source_name`."""
        return _source(name, *self._by_kind(), source_name)

    def spec(self, name: str, title: str, source_name: str) -> str:
        """The shortest text of a spec that says this: keys are left out that change nothing.

        Raises SpecError, with places in a text called after `source_name`.
        """
        settings, by_layer = self._by_kind()
        wanted = semantic_hash(compile_ir(_source(name, settings, by_layer, source_name)))
        for key in list(settings):
            shorter = {other: value for other, value in settings.items() if other != key}
            if "." in key and not key.startswith(("modalities.", "towers.")):
                with suppress(SpecError):  # where it must be said
                    if semantic_hash(compile_ir(_source(name, shorter, by_layer, source_name))) == wanted:
                        settings = shorter
        text = convert(_source(name, settings, by_layer, source_name), "mot")
        return f"# {title}\n{text}"

    def _by_kind(self) -> tuple[Settings, list[dict[str, Any]]]:
        """Settings of most layers with those of the model, and statements about the others."""
        kinds = [json.dumps(each, sort_keys=True) for each in self.by_layer]
        if not kinds:
            return {**self.settings, **self.statements}, []
        counted = [kind for kind, _ in Counter(kinds).most_common()]
        most = json.loads(next((kind for kind in counted if NEVER_GOES not in kind), counted[0]))
        statements = []
        for kind in dict.fromkeys(kinds):
            other = json.loads(kind)
            may_go = [key for key in MAY_GO if not (key.startswith("attention.rope.") and "attention.rope" in other)]
            gone = {key: "none" for key in may_go if key in most and key not in other}
            changes = {key: value for key, value in {**other, **gone}.items() if key not in most or most[key] != value}
            if changes:
                numbers = [layer for layer, of in enumerate(kinds) if of == kind]
                statements += [{"layers": each, **_nested(changes)} for each in ranges(numbers)]
        return {**self.settings, **most, **self.statements}, statements


def ranges(numbers: list[int]) -> list[int | str]:
    """Ascending numbers as `3`, `0..3` and `1..25 step 2`, as few as come of taking the longest from the first on."""
    texts: list[int | str] = []
    while numbers:
        step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
        count = 1
        while count < len(numbers) and numbers[count] - numbers[count - 1] == step:
            count += 1
        if step > 1 and count == 2:  # two that are apart are no row
            count = 1
        first, last = numbers[0], numbers[count - 1]
        texts.append(first if count == 1 else f"{first}..{last}" + (f" step {step}" if step > 1 else ""))
        numbers = numbers[count:]
    return texts


def _source(name: str, settings: Settings, by_layer: list[dict[str, Any]], source_name: str) -> SourceFile:
    statements = {"by_layer": by_layer} if by_layer else {}
    given = spec_source({"model": name, **_nested({**settings, **statements})})
    assert isinstance(given, SourceFile)
    return replace(given, name=f"{source_name}.yaml")


def _nested(settings: Settings) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, last = key.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = dict(value) if isinstance(value, dict) else value
    return _ordered(tree)


def _ordered(tree: dict[str, Any]) -> dict[str, Any]:
    """Keys in `ORDER`, but for those of modalities and towers, which are names; whole numbers without a point."""
    keys = sorted(tree, key=lambda key: ORDER.index(key) if key in ORDER else len(ORDER))
    ordered: dict[str, Any] = {}
    for key in keys:
        value = tree[key]
        if isinstance(value, dict):
            names = key in ("modalities", "towers")
            value = {name: _ordered(of) for name, of in value.items()} if names else _ordered(value)
        elif isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
            value = int(value)
        ordered[key] = value
    return ordered
