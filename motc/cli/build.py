"""`motc build`: a spec to a package, or to a single file."""

from __future__ import annotations

from collections.abc import Mapping
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
    from motc.ir.execution import Strategy


def run(
    spec: SpecPath,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="DIR", help="The package: where its files go.", show_default=False, parser=read_path
        ),
    ] = None,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="Write DIR/model.py alone, with all that it needs in it.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if what DIR has is out of date.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that were edited by hand.")] = False,
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
    """Write the spec's model as a package that imports only torch: DIR/model.py and the building blocks it needs."""
    from motc.emit.signature import INIT, listed

    files = _compile(spec, overrides(set_), dense, strategy, print_after or [], stop_after, single_file)
    if stop_after is not None:
        return
    if out is None:
        raise typer.BadParameter("say where the model goes", param_hint="-o")
    current = {name: _read(out / name) for name in {INIT, *files}}
    ours = listed(current[INIT])
    stale = sorted(ours.keys() - files.keys())  # of a model that needed more
    stale += [INIT] if INIT not in files and ours else []
    current |= {name: _read(out / name) for name in stale}
    if check:
        for name, text in sorted(files.items()):
            if current[name] != text:
                state = "does not exist" if current[name] is None else f"is not what {spec} gives"
                raise Stop(1, f"{out / name} {state}; run: motc build {spec} -o {out}")
        if stale:
            raise Stop(1, f"{out / stale[0]} is of an earlier model; run: motc build {spec} -o {out}")
        typer.echo(f"{out}: up to date")
        return
    for name, there in sorted(current.items()):
        if not (force or there is None or there == files.get(name) or _is_ours(name, there, ours)):
            raise Stop(1, f"{out / name} was edited since motc wrote it, or motc never did; --force overwrites it")
    for name in sorted(files, key=lambda name: (name == INIT, name)):  # which lists the others, and so comes last
        if current[name] != files[name]:
            write_whole(out / name, files[name])
    for name in stale:
        (out / name).unlink(missing_ok=True)
    typer.echo(out / "model.py")


def _is_ours(name: str, text: str, ours: Mapping[str, str]) -> bool:
    """Whether a file that stands in the way is as motc wrote it."""
    from motc.emit.signature import digest, is_untouched

    return ours[name] == digest(text) if name in ours else is_untouched(text)


def _compile(
    spec: Path,
    values: dict[str, Setting],
    dense: bool,
    strategy: Strategy | None,
    print_after: list[str],
    stop_after: str | None,
    single_file: bool,
) -> dict[str, str]:
    """The pipeline up to `stop_after`; the text of each file by its name, or nothing where it stopped before."""
    from motc.driver import check_spec, generate, generate_package, spec_text, stages
    from motc.ir.print import print_ir
    from motc.passes import PASSES
    from motc.plan import plan

    names = ["lower", *(rewrite.__name__ for rewrite in PASSES)]
    _known(print_after, names, "--print-after")
    _known([stop_after] if stop_after else [], ["schema", *names, "plan", "emit"], "--stop-after")
    checked = check_spec(spec, values)
    if stop_after == "schema":
        return {}
    for name, model in stages(checked, dense=dense, strategy=strategy):
        if name in print_after:
            typer.echo(f"# after {name}\n{print_ir(model)}")
        if name == stop_after:
            return {}
    if stop_after == "plan":
        plan(model)
        return {}
    text = spec_text(checked, dense=dense)
    return {"model.py": generate(model, text)} if single_file else generate_package(model, text)


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
