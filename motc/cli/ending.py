"""A command that is told to end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any, NoReturn


@contextlib.contextmanager
def cleared_when_ended() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: what was written aside is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _end(number: int, frame: Any) -> NoReturn:
    raise SystemExit(128 + number)
