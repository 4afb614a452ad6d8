"""Files that appear whole or not at all, and what is no file: devices, FIFOs, links, folders."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from motc import files
from motc.cli import main
from motc.files import remove_leftovers, replacing, write_whole

ROOT = Path(__file__).resolve().parent.parent
SPEC = str(ROOT / "specs" / "emoji_mot.mot")


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(params=["a new file", "a file", "a file of two names"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "file"
    if request.param != "a new file":
        path.write_text("old")
    if request.param == "a file of two names":
        os.link(path, tmp_path / "other")
    return path


def test_a_file_is_written_whole(target: Path) -> None:
    before = sorted(target.parent.iterdir())
    write_whole(target, "new")
    write_whole(target, b"n")
    assert target.read_text() == "n"
    assert sorted(target.parent.iterdir()) == sorted({*before, target})
    other = target.with_name("other")
    assert not other.exists() or (other.read_text() == "n" and other.samefile(target))


def test_a_full_disk_leaves_what_was_there_and_the_message_names_it(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_text() for path in target.parent.iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left") as caught:
            write_whole(target, "new and longer")
    assert caught.value.filename == str(target)
    assert {path: path.read_text() for path in target.parent.iterdir()} == before


def test_mode_and_attributes_stay_and_a_new_file_has_those_of_the_umask(tmp_path: Path) -> None:
    path, new = tmp_path / "file", tmp_path / "new"
    path.write_text("old")
    path.chmod(0o4640)
    os.utime(path, (1, 1))
    write_whole(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o4640
    assert path.stat().st_mtime > 1, "it was written now"
    before = os.umask(0o027)
    try:
        write_whole(new, "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE(new.stat().st_mode) == 0o640


def test_an_owner_that_cannot_be_given_away_stays_by_writing_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    before, number = path.stat(), path.stat().st_ino
    status = os.stat_result((*before[:4], before.st_uid + 1, *before[5:]))
    monkeypatch.setattr(files, "_status", lambda _: status)

    def chown(*_: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chown", chown)
    write_whole(path, "new")
    assert (path.read_text(), path.stat().st_ino) == ("new", number)
    assert list(tmp_path.iterdir()) == [path]


def test_an_owner_that_can_be_given_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    before = path.stat()
    status = os.stat_result((*before[:4], before.st_uid + 1, before.st_gid + 1, *before[6:]))
    monkeypatch.setattr(files, "_status", lambda _: status)
    given: list[Any] = []
    monkeypatch.setattr(os, "chown", lambda path, *owner: given.append((path.name, *owner)))
    write_whole(path, "new")
    assert given == [("file", before.st_uid + 1, before.st_gid + 1)]
    assert path.stat().st_ino != before.st_ino


def test_a_file_that_may_not_be_written_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="file"):
        write_whole(path, "new")
    assert path.read_text() == "old"


def test_links_are_followed_and_stay(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("folder/file")
    write_whole(tmp_path / "link", "first")
    write_whole(tmp_path / "link", "second")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "file").read_text() == "second"


def test_a_fifo_is_written_into(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(fifo, "through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(fifo.stat().st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make devices")
def test_a_device_stays_one(tmp_path: Path) -> None:
    null = tmp_path / "null"
    try:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        write_whole(null, "away")
    except PermissionError:
        pytest.skip("devices are forbidden here")
    assert stat.S_ISCHR(null.stat().st_mode)


def test_what_is_written_aside_is_private_and_gone_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        assert stat.S_IMODE(first.parent.stat().st_mode) == 0o700
        assert first.parent.parent == second.parent.parent == tmp_path
        first.write_text("1")
        second.write_text("2")
    assert path.read_text() == "1"
    with pytest.raises(KeyboardInterrupt), replacing(path):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_planted_at_a_name_aside_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    names = iter(["planted", "free"])
    monkeypatch.setattr(tempfile, "_get_candidate_names", lambda: names)
    (tmp_path / ".motc-planted.tmp").symlink_to("elsewhere")
    with replacing(tmp_path / "file") as aside:
        assert aside.parent.name == ".motc-free.tmp"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("not ours")
    (tmp_path / ".motc-link.tmp").symlink_to("elsewhere")
    (tmp_path / ".motc-killed.tmp").mkdir()
    (tmp_path / ".motc-killed.tmp" / "seed0.safetensors").write_text("half")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".motc-link.tmp", "elsewhere"]
    assert (tmp_path / "elsewhere" / "file").read_text() == "not ours"


def test_what_a_killed_process_left_is_gone_when_the_next_file_is_written(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from motc.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as aside:\n"
        "    aside.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program, tmp_path / "file"]).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()  # nothing of its name
    assert left.name.startswith(".motc-")
    write_whole(tmp_path / "other", "whole")
    assert left.exists()  # it may be so new that it is not locked yet
    os.utime(left, (0, 0))
    (tmp_path / ".motc-link.tmp").symlink_to(tmp_path)
    with replacing(tmp_path / "third") as in_use:
        os.utime(in_use.parent, (0, 0))
        write_whole(tmp_path / "fourth", "whole")
    assert {each.name for each in tmp_path.iterdir()} == {"other", "third", "fourth", ".motc-link.tmp"}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_build_says_what_stands_in_the_models_place(
    make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "model.py")
    kind = "a FIFO" if make is os.mkfifo else "a directory"
    for words in ([], ["--force"], ["--check"]):
        assert main(["build", SPEC, "-o", str(tmp_path), *words]) == 1
        assert f"{tmp_path / 'model.py'} is {kind}" in capsys.readouterr().err


def test_a_spec_that_is_no_file_is_called_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop.mot").symlink_to("loop.mot")
    (tmp_path / "dangling.mot").symlink_to("nowhere.mot")
    os.mkfifo(tmp_path / "fifo.mot")
    for name, said in (
        ("loop.mot", "loop.mot is a symbolic link that leads back to itself"),
        ("dangling.mot", "dangling.mot is a symbolic link to nowhere.mot, which does not exist"),
        ("fifo.mot", "fifo.mot is a FIFO"),
        ("loop.mot/a.mot", "loop.mot/a.mot"),
        ("fifo.mot/a.mot", "Not a directory"),
        ("a" * 300 + ".mot", "File name too long"),
    ):
        assert main(["check", str(tmp_path / name)]) == 1
        told = capsys.readouterr().err
        assert said in told
        assert "MOT002" in told


def test_an_unreadable_spec_is_a_diagnostic_of_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "secret.mot"
    spec.write_text("model a { }")

    def forbid(path: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", forbid)
    monkeypatch.setattr(os, "access", lambda *_: False)
    options = {"convert": ["--to", "yaml"], "build": ["-o", "x"], "match": ["--data", "x", "--out", "x"]}
    options["diff"] = ["--dense"]
    for command in ("check", "fmt", "convert", "show", "build", "validate", "bench", "match", "diff"):
        assert main([command, str(spec), *options.get(command, [])]) == 1, command
        assert "MOT002" in capsys.readouterr().err, command


def test_stdout_by_its_name_is_stdout(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "motc", "convert", SPEC, "--to", "mot"]
    plain = subprocess.run(words, cwd=ROOT, capture_output=True, check=True).stdout
    log = tmp_path / "log"
    log.write_bytes(b"before\n")
    with log.open("ab") as file:  # as `>> log`, which nothing may shorten or replace
        subprocess.run([*words, "-o", "/dev/stdout"], cwd=ROOT, stdout=file, check=True)
        subprocess.run([*words, "-o", "/dev/stderr"], cwd=ROOT, stderr=file, stdout=subprocess.DEVNULL, check=True)
    assert log.read_bytes() == b"before\n" + plain + plain
