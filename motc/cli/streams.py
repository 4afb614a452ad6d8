"""Standard streams that are closed, full, or read by nobody."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Standard streams that can be written to, and whose errors say which of them it was.

    At the end what could not be written is dropped: Python's flush at exit would tell of it, and change the exit code.
    """
    _open_closed_ones()
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an arrow must not stop a terminal that has none
    sys.stdout = cast(TextIO, _Named(before[0], "standard output"))
    sys.stderr = cast(TextIO, _Named(before[1], "standard error"))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in before:
            _drop_what_cannot_be_written(stream)


class _Named:
    """A stream whose errors have its name."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, text: str) -> int:
        with self._told():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._told():
            self._stream.flush()

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._stream, attribute)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._name) from None


def _open_closed_ones() -> None:
    """Closed streams become /dev/null: else the next file that is opened would be taken for stdout."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free
    sys.stdout = sys.stdout or os.fdopen(os.dup(1), "w")
    sys.stderr = sys.stderr or os.fdopen(os.dup(2), "w")


def _drop_what_cannot_be_written(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        with contextlib.suppress(OSError):  # it has no descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
