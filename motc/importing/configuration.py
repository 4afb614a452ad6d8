"""A config.json as keys that are each read once: what nobody has read in the end is refused by its name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from motc.source import Diagnostic, SpecError
from motc.weights.header import read_json_file

FILE, PIPELINE = "config.json", "model_index.json"
MOST = 16_000_000


class Configuration:
    """An object of a configuration, or one inside of it; `path` says which, such as `text_config.`."""

    def __init__(self, file: Path, values: dict[str, Any], path: str = "") -> None:
        self.file, self.values, self.path = file, values, path
        self._unread = dict.fromkeys(values)

    def take(self, key: str, default: Any = None) -> Any:
        """A key's value, which is now read; the default where there is no such key."""
        self._unread.pop(key, None)
        return self.values.get(key, default)

    def part(self, key: str) -> Configuration:
        """The object that a key has; an empty one where it is missing or null."""
        value = self.take(key)
        if not isinstance(value, dict | None):
            self.refuse(key, value, "an object")
        return Configuration(self.file, value or {}, f"{self.path}{key}.")

    def pass_over(self, keys: Iterable[str]) -> None:
        """These keys change nothing."""
        for key in keys:
            self._unread.pop(key, None)

    def unread(self) -> list[str]:
        """The keys that were not taken, which have another value than null."""
        return [key for key in self._unread if self.values[key] is not None]

    def refuse(self, key: str, value: object, wanted: str) -> NoReturn:
        """Say that a key has a value that is not read."""
        raise refused(f"{self.file}: `{self.path}{key}` is {_shown(value)}, and motc reads {wanted}")


def read_configuration(folder: Path) -> Configuration:
    """The configuration in a folder. Raises SpecError, and OSError where it cannot be read."""
    file = folder / FILE
    if not file.exists() and (folder / PIPELINE).exists():
        raise refused(
            f"{folder} is a pipeline of diffusers, of several models", "say which: its denoiser is in transformer/"
        )
    return Configuration(file, read_json_file(file, MOST, "a configuration"))


def refused(message: str, help_: str = "") -> SpecError:
    """That motc does not read what a configuration says."""
    return SpecError(Diagnostic(code="MOT103", message=message, span=None, help=help_))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
