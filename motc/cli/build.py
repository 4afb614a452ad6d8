"""`motc build`: a spec to `model.py`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motc.cli.output import (
    DenseOption,
    SetOption,
    Setting,
    SpecPath,
    Stop,
    StrategyOption,
    overrides,
    read_path,
)
from motc.files import other_kind, write_whole

if TYPE_CHECKING:
    from motc.ir.model import Strategy


def run(
    spec: SpecPath,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Where model.py goes.", show_default=False, parser=read_path),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if DIR/model.py is out of date.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a model.py that was edited by hand.")] = False,
    dense: DenseOption = False,
    strategy: StrategyOption = None,
    print_after: Annotated[
        list[str] | None, typer.Option(metavar="PASS", help="Print the IR after `lower` or a pass.")
    ] = None,
    stop_after: Annotated[
        str | None,
        typer.Option(metavar="STAGE", help="Stop after schema, lower, a pass, plan or emit; write nothing."),
    ] = None,
    set_: SetOption = None,
) -> None:
    """Write the spec's model as one file, DIR/model.py, that imports only torch."""
    source = _compile(spec, overrides(set_), dense, strategy, print_after or [], stop_after)
    if stop_after is not None:
        return
    if out is None:
        raise typer.BadParameter("say where the model goes", param_hint="-o")
    path = out / "model.py"
    current = _read(path)
    if check:
        if current != source:
            state = "does not exist" if current is None else f"is not what {spec} gives"
            raise Stop(1, f"{path} {state}; run: motc build {spec} -o {out}")
        typer.echo(f"{path}: up to date")
        return
    from motc.emit.signature import is_untouched

    if not (force or current is None or current == source or is_untouched(current)):
        raise Stop(1, f"{path} was edited since motc wrote it, or motc never did; --force overwrites it")
    if current != source:
        write_whole(path, source)
    typer.echo(path)


def _compile(
    spec: Path,
    values: dict[str, Setting],
    dense: bool,
    strategy: Strategy | None,
    print_after: list[str],
    stop_after: str | None,
) -> str:
    """The pipeline up to `stop_after`; the text of the model, or nothing where it stopped before."""
    from motc.driver import check_spec, generate, stages
    from motc.ir.print import print_ir
    from motc.passes import PASSES
    from motc.plan import plan

    names = ["lower", *(rewrite.__name__ for rewrite in PASSES)]
    _known(print_after, names, "--print-after")
    _known([stop_after] if stop_after else [], ["schema", *names, "plan", "emit"], "--stop-after")
    checked = check_spec(spec, values)
    if stop_after == "schema":
        return ""
    for name, model in stages(checked, dense=dense, strategy=strategy):
        if name in print_after:
            typer.echo(f"# after {name}\n{print_ir(model)}")
        if name == stop_after:
            return ""
    if stop_after == "plan":
        plan(model)
        return ""
    return generate(model)


def _known(given: list[str], names: list[str], option: str) -> None:
    for name in given:
        if name not in names:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(names)}", param_hint=option)


def _read(path: Path) -> str | None:
    """The file's text, or None if there is none. Bytes that are no text are shown as such, so they never match."""
    kind = other_kind(path)
    if kind is not None:  # reading a FIFO would wait, perhaps for ever
        raise Stop(1, f"{path} is {kind}, and a model is a file: remove it, or choose another folder")
    try:
        return path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return None
