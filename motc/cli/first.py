"""`motc` without a command: what to do first."""

from __future__ import annotations

import typer

FIRST = """motc compiles a short spec of a multi-modal transformer to a readable PyTorch package.

  motc new my.mot                    a first spec, from a published model
  motc show my.mot --html my.html    what is shared and what is untied, as a page
  motc build my.mot -o my_model      the package: my_model/model.py is its architecture

`motc --help` lists all commands."""


def tell() -> None:
    """Print it."""
    typer.echo(FIRST)
