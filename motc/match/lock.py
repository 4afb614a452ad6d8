"""One process at a time in a run's folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from motc.match.settings import MatchError

LOCK = "run.lock"


class Held(MatchError):
    """Another process holds the folder."""


_held: set[int] = set()  # descriptors


def _let_go() -> None:
    """Close the locks that a forked process has inherited: with them it would hold what its parent has let go."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the folder. The system lets go of it however this process ends, so no lock is ever left behind.

    It is this process's alone: one that is forked from it, such as a data loader's worker, holds nothing. Raises
    Held where another process holds it, MatchError where the lock is no file to be opened, or the file system has no
    locks.
    """
    import fcntl  # where there is none, the other commands still work

    path = out / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        reason = "a link, which is not followed" if error.errno == errno.ELOOP else error.strerror
        raise MatchError(f"{path} cannot be opened ({reason}): remove it, or choose another --out") from None
    _held.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                holder = os.read(descriptor, 20).decode(errors="replace").strip()
                told = f"process {holder}" if holder.isdecimal() else "another process"
                raise Held(f"{told} is at work in {out}: wait for it, or choose another --out") from None
            raise MatchError(f"{path} cannot be locked ({error.strerror}); choose an --out on another disk") from None
        with suppress(OSError):  # a full disk is told by whoever has more to write
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        if descriptor in _held:  # else this is a fork, which has let go of it
            _held.remove(descriptor)
            os.close(descriptor)
