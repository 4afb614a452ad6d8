"""`motc check`: are these specs right?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from motc.cli.output import JsonOption, SetOption, Stop, diagnostic_json, overrides, print_json, report
from motc.source import Diagnostic, SpecError


def run(
    specs: Annotated[list[Path], typer.Argument(metavar="SPEC", help="Specs, .mot or .yaml.", show_default=False)],
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Say whether specs are right, and if not, where and why."""
    from motc.driver import compile_ir

    values = overrides(set_)
    found: list[Diagnostic] = []
    for spec in specs:
        try:
            compile_ir(spec, values)
        except SpecError as error:
            found += error.diagnostics
        else:
            if not json:
                typer.echo(f"{spec}: ok")
    if json:
        print_json({"ok": not found, "diagnostics": [diagnostic_json(diagnostic) for diagnostic in found]})
    elif found:
        report(found)
    if found:
        raise Stop(1)
