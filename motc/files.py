"""Files that appear whole or not at all, and what else may stand where a file is looked for."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

PREFIX, SUFFIX = ".motc-", ".tmp"  # of folders for what is written aside
NEW = 60  # seconds in which such a folder may not be locked yet

KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def other_kind(path: Path) -> str | None:
    """What stands at `path` if that is no regular file, such as `a directory`; None for a file, and for nothing.

    Links are followed. Raises OSError where that cannot be found out.
    """
    status = _status(path)
    return None if status is None else KINDS.get(stat.S_IFMT(status.st_mode))


def standard_stream(path: Path) -> int | None:
    """1 or 2 where `path` names the file that stdout or stderr goes to, as /dev/stdout does; else None."""
    status = _status(path)
    for descriptor in (1, 2) if status else ():
        with contextlib.suppress(OSError):  # it is closed
            if status and os.path.samestat(status, os.fstat(descriptor)):
                return descriptor
    return None


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that it appears whole or not at all; folders are made, links followed.

    A file that is replaced keeps its owner, mode and extended attributes. One that has other names too (hard links),
    or whose owner cannot be kept, is written in place, so that all its names have the new content: an error puts the
    old content back, but a kill meanwhile can leave a part of the new. What is no regular file is written into.
    Raises OSError, which names `path`.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with naming(path):
        status = _status(path)
        if status is None:
            Path(os.path.realpath(path)).parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as aside:
                aside.write_bytes(data)
        elif (stream := standard_stream(path)) is not None:
            for buffered in (sys.stdout, sys.stderr):
                buffered.flush()
            _write_into(os.dup(stream), data)
        elif stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        elif not stat.S_ISREG(status.st_mode):
            _write_into(os.open(path, os.O_WRONLY), data)
        elif not os.access(path, os.W_OK):  # whoever took the right to write away meant it, though a rename would do
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        elif status.st_nlink > 1 or not _replaced(path, data, status):
            _write_in_place(path, data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """An empty file to be filled, that takes the place of `path` at the end: `path` is the old file or the new.

    It lies beside `path` in a folder of its own, which only this user can read, whose name cannot be guessed, and which
    is gone at the end, also where the body raises. Raises OSError, the body's too, which names `path`.
    """
    target = Path(os.path.realpath(path))
    with naming(path), folder_aside(target.parent) as folder:
        aside = folder / target.name
        aside.touch()
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(target)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder to be filled, that is `path` at the end: whole, or not there. Folders on the way are made.

    It is filled beside `path`, in a folder that is gone at the end, also where the body raises. Raises OSError, which
    names `path`, where something stands there already that is no empty folder.
    """
    target = Path(os.path.realpath(path))
    with naming(path):
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise OSError(errno.EEXIST, "something is there already: remove it, or choose another folder")
        target.parent.mkdir(parents=True, exist_ok=True)
    with folder_aside(target.parent) as folder:
        aside = folder / target.name
        aside.mkdir()
        yield aside
        with naming(path):
            for file in aside.rglob("*"):
                if file.is_file():
                    with file.open("rb+") as content:
                        os.fsync(content.fileno())
            aside.replace(target)


@contextlib.contextmanager
def folder_aside(beside: Path) -> Iterator[Path]:
    """A folder in `beside` for what is not whole yet, which is gone at the end; and so are those of killed processes.

    It is locked as long as this process lives, by which others know that it is in use.
    """
    for other in beside.glob(f"{PREFIX}*{SUFFIX}"):
        _remove_if_left(other)
    temporary = TemporaryDirectory(prefix=PREFIX, suffix=SUFFIX, dir=beside, ignore_cleanup_errors=True)
    try:
        with temporary as folder:
            descriptor = _locked(Path(folder))
            try:
                yield Path(folder)
            finally:
                if descriptor is not None:
                    os.close(descriptor)
    finally:
        shutil.rmtree(temporary.name, ignore_errors=True)  # where a signal came while it was removed


def _locked(folder: Path) -> int | None:
    """An open descriptor of a folder that holds its lock; None where another has it, or there are no locks."""
    descriptor: int | None = None
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor


def _remove_if_left(aside: Path) -> None:
    """Remove a folder aside whose process has been killed: nobody has its lock, nor made it just now to lock it."""
    with contextlib.suppress(OSError):
        if time.time() - aside.stat(follow_symlinks=False).st_mtime < NEW:
            return
        descriptor = _locked(aside)
        if descriptor is not None:
            shutil.rmtree(aside, ignore_errors=True)
            os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed had written aside; for a folder that nobody else writes to now."""
    for aside in folder.glob(f"{PREFIX}*{SUFFIX}"):
        shutil.rmtree(aside, ignore_errors=True)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors name `path`, not what was written aside, nor nothing, as those of reading do."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


class _OwnerLost(Exception):
    """The owner of the file to be replaced cannot be given to the new one."""


def _replaced(path: Path, data: bytes, old: os.stat_result) -> bool:
    """Replace the file that `found` describes; False, and nothing done, where its owner would change."""
    try:
        with replacing(path) as aside:
            aside.write_bytes(data)
            _keep(path, old, aside)
    except _OwnerLost:
        return False
    return True


def _keep(path: Path, old: os.stat_result, aside: Path) -> None:
    new = aside.stat()
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.chown(aside, old.st_uid, old.st_gid)
        except PermissionError:
            raise _OwnerLost from None
    shutil.copystat(path, aside)
    os.utime(aside)


def _write_into(descriptor: int, data: bytes) -> None:
    with open(descriptor, "wb", buffering=0) as file:
        _write_all(file, data)


def _write_in_place(path: Path, data: bytes) -> None:
    with path.open("r+b", buffering=0) as file:
        old = file.readall()
        try:
            _overwrite(file, data)
        except BaseException:
            with contextlib.suppress(OSError):
                _overwrite(file, old)
            raise


def _overwrite(file: io.FileIO, data: bytes) -> None:
    file.seek(0)
    _write_all(file, data)
    file.truncate()
    os.fsync(file.fileno())


def _write_all(file: io.FileIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
