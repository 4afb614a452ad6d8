"""The files a spec is read from."""

from __future__ import annotations

from pathlib import Path

from motc.schema.resolve import MAX_DEPTH
from motc.source import SpecError
from motc.syntax import read, read_file
from motc.syntax.tree import Scalar


def files_of(spec: Path) -> tuple[Path, ...]:
    """A spec and what it extends, the one after the other, as far as they can be read: also where one is wrong."""
    files = [spec]
    while len(files) <= MAX_DEPTH + 1:
        try:
            base = read(read_file(files[-1])).get("extends")
        except (SpecError, OSError):
            break
        if not isinstance(base, Scalar) or not isinstance(base.value, str):
            break
        target = files[-1].parent / base.value
        if target in files:
            break
        files.append(target)
    return tuple(files)
