"""What commands that run models share: a progress bar, devices, and torch's errors in a line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import typer

from motc.cli.output import Stop

CACHE = "; its files go to TMPDIR and TORCHINDUCTOR_CACHE_DIR, which may name another disk"


@contextlib.contextmanager
def progress() -> Iterator[Callable[[float, str], None]]:
    """A bar on a terminal, gone when it is done; called with the fraction that is done and what is being done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)

        def notify(done: float, what: str) -> None:
            bar.update(task, completed=done, description=what)

        yield notify


def working(what: str) -> contextlib.AbstractContextManager[object]:
    """That a command works, on a terminal, where nothing says how much of it is done."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False).status(what)


@contextlib.contextmanager
def compiler_errors() -> Iterator[None]:
    """Too little memory, no compiler on this machine, or no place for what it makes, in a line."""
    import torch
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise Stop(1, f"the device has too little memory: {str(error).splitlines()[0]}") from None
    except MemoryError:
        raise Stop(1, "this machine has too little memory") from None
    except TorchDynamoException as error:
        raise Stop(1, f"torch cannot compile: {_cause(error)}") from None
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # torch has no class of its own for it on a CPU
            raise
        raise Stop(1, f"this machine has too little memory: {str(error).rpartition(': ')[2]}") from None
    except OSError as error:
        if error.filename is not None:
            raise
        raise Stop(1, f"torch cannot write: {error.strerror or error}{CACHE}") from None


def _cause(error: Exception) -> str:
    """What torch says first, and of all that a C++ compiler says the first line that speaks of an error."""
    inner = getattr(error, "inner_exception", None)
    text = f"{type(inner).__name__}: {inner}" if inner else str(error) or type(error).__name__
    first, *others = text.strip().splitlines()
    said = next((f": {line.strip()}" for line in others if re.search(r"\berror\b", line)), "")
    return first + said + (CACHE if isinstance(inner, OSError) else "")


def read_device(name: str) -> str:
    """`cpu`, `cuda` or `cuda:1`. Raises BadParameter where torch has no such device."""
    import torch

    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not (index.isascii() and index.isdecimal())):
        raise typer.BadParameter(f"{name!r} is neither cpu nor cuda", param_hint="--device")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise typer.BadParameter(f"torch finds no {name} here", param_hint="--device")
    return "cpu" if kind == "cpu" else name


def need(packages: tuple[str, ...], what: str, extra: str) -> None:
    """End the command where a package of an extra is not installed."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise Stop(1, f"{what} needs {' and '.join(missing)}; run: pip install 'motc[{extra}]'")
