"""`motc fmt`: one canonical form, comments kept."""

from __future__ import annotations

from typing import Annotated

import typer

from motc.cli.output import SpecPath, Stop
from motc.files import write_whole


def run(
    spec: SpecPath,
    write: Annotated[bool, typer.Option("--write", "-w", help="Write the file anew instead of printing.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Print nothing; fail if the file is not formatted.")] = False,
) -> None:
    """Print a spec in canonical form."""
    from motc.syntax import format_source, read_file

    if write and check:
        raise typer.BadParameter("--write and --check exclude each other")
    source = read_file(spec)
    formatted = format_source(source)
    if check:
        if spec.read_bytes() != formatted.encode():
            raise Stop(1, f"{spec} is not formatted; run: motc fmt {spec} --write")
    elif write:
        if spec.read_bytes() != formatted.encode():
            write_whole(spec, formatted)
            typer.echo(spec)
    else:
        typer.echo(formatted, nl=False)
