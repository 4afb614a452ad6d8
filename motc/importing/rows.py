"""Rows of the table: how one key of a configuration, or a few together, are said in a spec, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar, NoReturn, Protocol

from motc.importing.configuration import Configuration
from motc.importing.described import Described
from motc.importing.said import Said


class Row(Protocol):
    """Keys of a configuration that are read together."""

    def read(self, configuration: Configuration, described: Described) -> None:
        """Take the keys, and say what they mean. Raises SpecError, which names the key that says something else."""

    def write(self, said: Said) -> dict[str, Any]:
        """The keys of a configuration whose spec says this.

        Raises ValueError for settings that no value of the keys means.
        """


class OneWay:
    """What rows have that are read alone; `what` says of which models they are."""

    what: ClassVar[str] = "models of several parts"

    def write(self, said: Said) -> NoReturn:
        """Raises ValueError."""
        del said
        raise ValueError(f"{self.what} are not written")


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key that is one setting: `default` is what the class takes where it is missing.

    Null leaves the setting to the language, where a class has that. `values` are those that the key may have, and what
    they are called in a spec. `other_name` is what some versions of the class call the key, and
    `most` the largest number that it may be.
    """

    name: str
    ours: str
    default: Any = None
    kind: type = int
    may_be_null: bool = False
    other_name: str = ""
    most: int | None = None
    values: Mapping[Any, Any] = field(default_factory=dict)

    def read(self, configuration: Configuration, described: Described) -> None:
        value = configuration.take(self.name, configuration.take(self.other_name, self.default))
        if value is None:
            if not self.may_be_null:
                configuration.refuse(self.name, value, _KINDS[self.kind])
            return
        self.check(configuration, value)
        described.settings[self.ours] = self.values.get(value, value) if self.values else self.forth(value)

    def check(self, configuration: Configuration, value: Any) -> None:
        """That a value is of the kind that the key has."""
        kinds = (int, float) if self.kind is float else (self.kind,)
        if type(value) not in kinds:
            configuration.refuse(self.name, value, _KINDS[self.kind])
        if self.most is not None and not 1 <= value <= self.most:
            configuration.refuse(self.name, value, f"1 to {self.most}")
        if self.values and value not in self.values:
            configuration.refuse(self.name, value, " or ".join(map(str, self.values)))

    def forth(self, value: Any) -> Any:
        """The setting that a value is."""
        return value

    def back(self, value: Any) -> Any:
        """The value of a setting."""
        return value

    def write(self, said: Said) -> dict[str, Any]:
        value = said.settings.get(self.ours)
        value = "none" if value is None else value
        theirs = [key for key, ours in self.values.items() if ours == value]
        if theirs or (value == "none" and self.may_be_null):
            return {self.name: theirs[0] if theirs else None}
        if self.values or value == "none":
            raise ValueError(f"no `{self.name}` is {self.ours} = {value}")
        return {self.name: self.back(value)}


_KINDS: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


class AboveZero(Key):
    """A number that is finite and above 0."""

    def check(self, configuration: Configuration, value: Any) -> None:
        super().check(configuration, value)
        if not 0 < value < inf:
            configuration.refuse(self.name, value, "a number above 0")


class InverseRoot(AboveZero):
    """A number of which the setting is one over the root: Gemma's `query_pre_attn_scalar`."""

    def forth(self, value: Any) -> Any:
        return value**-0.5

    def back(self, value: Any) -> Any:
        number = value**-2
        return round(number) if abs(number - round(number)) < 1e-6 * number else number


class Reciprocal(AboveZero):
    """A number of which the setting is one over it."""

    def forth(self, value: Any) -> Any:
        return 1 / value

    def back(self, value: Any) -> Any:
        return 1 / value


@dataclass(frozen=True, kw_only=True)
class Only:
    """A key that motc reads with one value alone, which is also the class's where it is missing; null is as good."""

    name: str
    value: Any
    others: tuple[Any, ...] = ()

    def read(self, configuration: Configuration, described: Described) -> None:
        del described
        value = configuration.take(self.name)
        if value is not None and not any(value == each and type(value) is type(each) for each in self.allowed):
            configuration.refuse(self.name, value, " or ".join(map(repr, self.allowed)))

    @property
    def allowed(self) -> tuple[Any, ...]:
        """The values that are read."""
        same = (float(self.value), int(self.value)) if type(self.value) in (int, float) else (self.value,)
        return (*same, *self.others)

    def write(self, said: Said) -> dict[str, Any]:
        del said
        return {self.name: self.value}


@dataclass(frozen=True, kw_only=True)
class Noted:
    """A key that counts in training alone, which motc leaves out and says so, such as dropout."""

    name: str
    default: float = 0.0
    told: str = "motc has no dropout"

    def read(self, configuration: Configuration, described: Described) -> None:
        value = configuration.take(self.name, self.default)
        if value:
            described.notes.append(f"`{configuration.path}{self.name}` = {value}: {self.told}")

    def write(self, said: Said) -> dict[str, Any]:
        del said
        return {self.name: 0.0}


@dataclass(frozen=True, kw_only=True)
class Passed:
    """Keys that change nothing in this class."""

    names: tuple[str, ...]

    def read(self, configuration: Configuration, described: Described) -> None:
        configuration.pass_over(self.names)

    def write(self, said: Said) -> dict[str, Any]:
        return {}
