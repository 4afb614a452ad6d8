"""A spec's file to its text."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from motc.files import other_kind
from motc.source import Diagnostic, SourceFile, SpecError

LARGEST = 250_000
"""How long a spec may be, with all that it extends; one that fills it with statements is compiled in seconds."""


def read_file(path: Path) -> SourceFile:
    """The text of a spec, line ends as \\n. Raises SpecError for what cannot be read or is no text."""
    try:
        kind = other_kind(path)
        if kind is not None:
            raise _error("MOT002", f"{path} is {kind}", "name one spec: a .mot, .yaml or .yml file")
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        if path.is_symlink():
            message = f"{path} is a symbolic link to {os.readlink(path)}, which does not exist"
            raise _error("MOT002", message, "check where the link leads") from None
        raise _error("MOT002", f"there is no file {path}", "check the path") from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            message = f"{path} is a symbolic link that leads back to itself"
            raise _error("MOT002", message, "check where the link leads") from None
        reason = getattr(error, "strerror", None) or str(error)
        raise _error(
            "MOT002", f"cannot read {str(path)[:200]!r}: {reason}", "check the path and its permissions"
        ) from None
    if len(data) > LARGEST:
        raise too_large(str(path))
    if b"\0" in data:
        raise _error("MOT003", f"{path} is a binary file", "a spec is a text in UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _error(
            "MOT003", f"{path} is not UTF-8: {error.reason} at byte {error.start}", "save it as UTF-8"
        ) from None
    if not text.strip():
        raise _error("MOT004", f"{path} is empty", "start with `model NAME { ... }`, or `model: NAME` in YAML")
    return text_source(str(path), text)


def text_source(name: str, text: str) -> SourceFile:
    """A text under the name it is shown by, line ends as \\n."""
    return SourceFile(name, text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))


def too_large(what: str) -> SpecError:
    """That a text, or one with those that it extends, is longer than specs may be."""
    way_out = "a spec is a short text; is this the right file?"
    return _error("MOT005", f"{what} is larger than {LARGEST:,} bytes", way_out)


def _error(code: str, message: str, way_out: str) -> SpecError:
    return SpecError(Diagnostic(code=code, message=message, span=None, help=way_out))
