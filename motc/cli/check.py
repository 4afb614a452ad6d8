"""`motc check`: are these specs right?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from motc.cli import completion
from motc.cli.output import JsonOption, SetOption, Stop, overrides, read_path, report
from motc.source import Diagnostic, SpecError


def run(
    specs: Annotated[
        list[Path],
        typer.Argument(
            metavar="SPEC",
            help="Specs, .mot or .yaml.",
            show_default=False,
            parser=read_path,
            autocompletion=completion.specs,
        ),
    ],
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Say whether specs are right, and if not, where and why. A warning leaves a spec right, and the exit code 0."""
    from motc.driver import check_spec, final_ir
    from motc.lower import warnings

    values = overrides(set_)
    mistakes: list[Diagnostic] = []
    warned: list[Diagnostic] = []
    more = 0
    for spec in specs:
        try:
            checked = check_spec(spec, values)
            model = final_ir(checked)
        except SpecError as error:
            mistakes += error.diagnostics
            more += error.more
        else:
            warned += warnings(checked, model)
            if not json:
                typer.echo(f"{spec}: ok")
    if json or mistakes or warned:
        report([*warned, *mistakes], more=more, ok=not mistakes, as_json=json)
    if mistakes:
        raise Stop(1)
