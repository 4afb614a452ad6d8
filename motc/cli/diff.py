"""`motc diff`: what turns one model into another. Exits with 0 same, 1 any error, 2 they differ."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motc.cli.completion import specs
from motc.cli.output import (
    HtmlOption,
    JsonOption,
    SetOption,
    SpecPath,
    Stop,
    SvgOption,
    overrides,
    print_json,
    read_path,
    write_picture,
)

if TYPE_CHECKING:
    from motc.diff.edit import Edit

COLOURS = {"+": typer.colors.GREEN, "-": typer.colors.RED, "~": typer.colors.YELLOW}


def run(
    spec: SpecPath,
    other: Annotated[
        Path | None,
        typer.Argument(
            metavar="OTHER",
            help="The spec to compare with.",
            show_default=False,
            parser=read_path,
            autocompletion=specs,
        ),
    ] = None,
    dense: Annotated[
        bool, typer.Option("--dense", help="From SPEC's dense twin to SPEC: what untying changed.")
    ] = False,
    html: HtmlOption = None,
    svg: SvgOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Say what turns SPEC's model into OTHER's, in groups, parameters and FLOPs; --set overrides a key of both.

    Exits with 0 if they are the same, 2 if they differ, 1 for any error.
    """
    if (other is None) != dense:
        raise typer.BadParameter("give either a second spec or --dense", param_hint="OTHER")
    from motc.diff import diff
    from motc.driver import check_spec, final_ir

    values = overrides(set_)
    checked = check_spec(spec, values)
    old = final_ir(checked, dense=dense)
    new_spec = checked if other is None else check_spec(other, values)
    new = final_ir(new_spec)
    edits = diff(old, new)
    if html is not None:
        from motc.report.page import page_of_diff
        from motc.report.subject import Subject

        was = Subject(checked, old, dense, prefix="b")
        write_picture(html, page_of_diff(was, Subject(new_spec, new)), told=False)
    if svg is not None:
        from motc.report import drawn_diff, standalone

        write_picture(svg, standalone(drawn_diff(old, new)), told=False)
    if json:
        print_json({"same": not edits, "edits": [edit.to_json() for edit in edits]})
    elif edits:
        _echo(typer.style(f"--- {spec}{' (dense twin)' if dense else ''}", bold=True))
        _echo(typer.style(f"+++ {other or spec}", bold=True))
        echo_edits(edits)
    else:
        typer.echo("the same model")
    if edits:
        raise Stop(2)


def echo_edits(edits: Iterable[Edit]) -> None:
    """A line for each edit."""
    for edit in edits:
        _echo(f"{typer.style(edit.kind, fg=COLOURS[edit.kind])} {edit.describe()}")


def _echo(line: str) -> None:
    """A line with its colours on a terminal, unless NO_COLOR is set; without them anywhere else."""
    typer.echo(line, color=False if os.environ.get("NO_COLOR") else None)
