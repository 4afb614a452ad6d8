"""`motc convert`: from one syntax to the other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from motc.cli.output import SpecPath, read_path
from motc.files import standard_stream, write_whole

OTHERS = {"mot": (".yaml", ".yml"), "yaml": (".mot",)}  # endings of the other syntax


def run(
    spec: SpecPath,
    to: Annotated[Literal["yaml", "mot"], typer.Option(help="The syntax to write.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="FILE", help="Write there, not to stdout.", show_default=False, parser=read_path
        ),
    ] = None,
) -> None:
    """Print a spec in the other syntax, with the same meaning and its comments; `extends` stays as it is."""
    from motc.syntax import convert, read_file

    if out is not None and out.suffix.lower() in OTHERS[to]:
        raise typer.BadParameter(f"{out} would not be read as {to}; its ending says otherwise", param_hint="-o")
    text = convert(read_file(spec), to)
    if out is None or standard_stream(out) == 1:
        typer.echo(text, nl=False)
    else:
        write_whole(out, text)
        typer.echo(out)
