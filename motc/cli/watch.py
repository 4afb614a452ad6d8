"""`motc watch`: a spec checked again whenever it is saved, and what that changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from motc.cli.diff import echo_edits
from motc.cli.output import DenseOption, SetOption, Setting, SpecPath, overrides, report

if TYPE_CHECKING:
    from motc.ir.model import Model

SECONDS = 0.2
"""Between two looks at the files."""

Stamp = tuple[tuple[Path, int, int], ...]


def run(spec: SpecPath, dense: DenseOption = False, set_: SetOption = None) -> None:
    """Check a spec whenever it, or what it extends, is saved, and say what changed since it was last right.

    Ctrl-C ends it.
    """
    watch(spec, overrides(set_), dense, lambda: time.sleep(SECONDS))


def watch(spec: Path, values: dict[str, Setting], dense: bool, wait: Callable[[], None]) -> None:
    """Look at the files, and `wait`, until that raises."""
    good: Model | None = None
    seen: Stamp | None = None
    while True:
        stamp = _stamp(spec)
        if stamp != seen:
            seen = stamp
            good = _look(spec, values, dense, good)
        wait()


def _look(spec: Path, values: dict[str, Setting], dense: bool, good: Model | None) -> Model | None:
    """Check the spec, tell of it, and return its model, or the one that was last right."""
    from motc.diff import diff
    from motc.driver import check_spec, final_ir
    from motc.lower import warnings
    from motc.report.account import subtitle, subtitle_of_diff
    from motc.source import SpecError

    try:
        checked = check_spec(spec, values)
        model = final_ir(checked, dense=dense)
    except SpecError as error:
        report(error.diagnostics, more=error.more)
        return good
    if told := warnings(checked, model):
        report(told, ok=True)
    if good is None:
        typer.echo(f"{spec}: ok, {subtitle(model)}")
    elif edits := diff(good, model):
        typer.echo(f"{spec}: ok, {subtitle_of_diff(good, model)}")
        echo_edits(edits)
    else:
        typer.echo(f"{spec}: ok, the same model")
    return model


def _stamp(spec: Path) -> Stamp:
    """Which files the spec is of, and when each was written; a file that is not there has no time."""
    from motc.schema.files import files_of

    times = []
    for path in files_of(spec):
        try:
            stat = path.stat()
        except OSError:
            times.append((path, 0, -1))
        else:
            times.append((path, stat.st_mtime_ns, stat.st_size))
    return tuple(times)
