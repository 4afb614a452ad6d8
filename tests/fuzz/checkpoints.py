"""Checkpoints with something wrong in them: each is told by file and tensor, and leaves nothing behind.

A good folder of one of a few classes is written, damaged in a way drawn from a seed, and given to `motc import`; or
weights that motc saved are damaged, and given to `motc.load` and `motc show`.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from motc.cli import main
from motc.files import PREFIX
from tests.full_disk import files_of_at_most
from tests.fuzz.damage import SMALL, Damaged, Untold, damage_file, damaged_config, damaged_folder, llama, write_folder

SECONDS = 60
"""How long one command may take: what takes longer is caught in a loop, or makes what a header merely says."""

STEPS_OF_WRITING = 15
"""How often `motc import` opens, makes or renames what it writes, up to where the last file is in its place."""


def run(words: list[str]) -> tuple[int, str]:
    """A command's exit code, and what it said. Raises what comes out of it, and Untold where it does not end."""
    said = io.StringIO()

    def late(*_: Any) -> None:
        raise Untold(f"not done after {SECONDS} seconds: motc {' '.join(words)}")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return main(words), said.getvalue()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def all_files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def is_told(damaged: Damaged) -> None:
    """`motc import` refuses a folder by name, or takes all of it; and leaves the two files or none. Raises Untold."""
    under, before = damaged.folder.parent, all_files(damaged.folder.parent)
    out, weights = under / "out.mot", under / "out.safetensors"
    code, said = run(["import", str(damaged.folder), "-o", str(out), "--weights", str(weights)])
    left = all_files(under) - before
    if code == 0:
        if damaged.is_wrong:
            raise Untold(f"{damaged.done}: it was imported")
        if left != {out, weights} or run(["show", str(weights)])[0] != 0:
            raise Untold(f"{damaged.done}: it left {sorted(left)}")
        return
    if code not in (1, 2) or left:
        raise Untold(f"{damaged.done}: exit {code}, left {sorted(left)}, said {said}")
    if "Traceback" in said or str(damaged.folder) not in said:
        raise Untold(f"{damaged.done}: no file is named: {said}")
    if damaged.tensors and not any(name in said for name in damaged.tensors):
        raise Untold(f"{damaged.done}: no tensor is named: {said}")


def loads_or_tells(seed: int, saved: Path, under: Path) -> None:
    """A file of `motc.save`, damaged, is refused by name by `motc show` or by loading."""
    import motc
    from motc.source import SpecError

    draw = random.Random(seed)
    path = under / "it.safetensors"
    shutil.copy(saved, path)
    done = damage_file(path, draw)
    for command in (lambda: run(["show", str(path)]), lambda: motc.load(weights=path)):
        try:
            said = command()
        except (SpecError, OSError) as error:
            if str(path) not in str(error):
                raise Untold(f"{done}: {error}") from None
        else:
            if not isinstance(said, tuple):
                raise Untold(f"{done}: it was loaded")
            code, text = said
            if code not in (0, 1) or (code and str(path) not in text):
                raise Untold(f"{done}: {said}")


def is_refused_by_name(seed: int, saved: Path, under: Path) -> None:
    """A file of `motc.save`, damaged, is refused by `motc init` and by `motc export`, which leave nothing."""
    path, spec, map_file = under / "it.safetensors", under / "it.mot", under / "it.map"
    shutil.copy(saved, path)
    done = damage_file(path, random.Random(seed))
    spec.write_text(SMALL)
    map_file.write_text("copy *\n")
    before = all_files(under)
    start = ["init", str(spec), "--from", f"it={path}", "--map", str(map_file), "-o", str(under / "out.safetensors")]
    for words in (start, ["export", str(spec), str(path), "--to", "hf", str(under / "out")]):
        code, said = run(words)
        if code != 1 or all_files(under) != before or str(path) not in said:
            raise Untold(f"{words[0]}, {done}: exit {code}, left {sorted(all_files(under) - before)}, said {said}")


@contextlib.contextmanager
def cleaned(folder: Path) -> Iterator[Path]:
    """An empty folder, again at the end."""
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def leaves_whole_files(seed: int, under: Path, kill: int) -> None:
    """`motc import`, in a process that is ended as it writes, at a step drawn: what files there are are whole.

    What SIGTERM ends leaves nothing aside either; what SIGKILL does is removed by the next that writes there.
    """
    draw = random.Random(seed)
    config, tensors = llama(draw)
    write_folder(under / "it", config, tensors, draw)
    before, out, weights = all_files(under), under / "out.mot", under / "out.safetensors"
    words = ["import", str(under / "it"), "-o", str(out), "--weights", str(weights)]
    number, asked = draw.randrange(STEPS_OF_WRITING), count()

    def end(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.mkdir", "os.rename"):
            path = str(arguments[0])
            if path.startswith(str(under)) and not path.startswith(words[1]) and next(asked) == number:
                os.kill(os.getpid(), kill)

    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        code = 99
        sys.addaudithook(end)
        try:
            code = main(words)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status == 0:
        raise Untold("it was not ended")
    left = all_files(under) - before
    aside = {path for path in left if path.relative_to(under).parts[0].startswith(PREFIX)}
    if aside and kill != signal.SIGKILL:
        raise Untold(f"exit {status}: it left {sorted(left)}")
    for path in aside:
        if path.parent == under:
            os.utime(path, (0, 0))
    code, said = run(words)
    if code != 0 or all_files(under) - before != {out, weights}:
        raise Untold(f"afterwards: {said}, {sorted(all_files(under) - before)}")
    if not left - aside <= {out, weights}:
        raise Untold(f"it left {sorted(left)}")


def a_full_disk_is_told(seed: int, under: Path) -> None:
    """`motc import` where files can have so many bytes only: nothing is left, and the file is named."""
    draw = random.Random(seed)
    config, tensors = llama(draw)
    write_folder(under / "it", config, tensors, draw)
    before = all_files(under)
    with files_of_at_most(draw.choice([0, 1, 100, 5000, 9000])):
        code, said = run(
            ["import", str(under / "it"), "-o", f"{under}/out.mot", "--weights", f"{under}/out.safetensors"]
        )
    if code != 1 or all_files(under) != before or f"{under}/out." not in said:
        raise Untold(f"exit {code}, left {sorted(all_files(under) - before)}, said {said}")


def no_checkpoint_goes_untold(seed: int, saved: Path, under: Path) -> None:
    """One of the above, drawn from a seed. Raises Untold."""
    with cleaned(under / f"seed{seed}") as folder:
        match seed % 10:
            case 0:
                leaves_whole_files(seed, folder, random.Random(seed).choice([signal.SIGTERM, signal.SIGKILL]))
            case 1:
                a_full_disk_is_told(seed, folder)
            case 2 | 3:
                is_told(damaged_config(seed, folder))
            case 4 | 5:
                loads_or_tells(seed, saved, folder)
            case 6:
                is_refused_by_name(seed, saved, folder)
            case _:
                is_told(damaged_folder(seed, folder))
