"""`motc explain`: what a code of a diagnostic means."""

from __future__ import annotations

from typing import Annotated

import typer

from motc.source.codes import CODES


def run(
    code: Annotated[str | None, typer.Argument(help="Such as MOT021; none lists all.", show_default=False)] = None,
) -> None:
    """Explain a diagnostic's code, or list all codes."""
    if code is None:
        for each in CODES.values():
            typer.echo(f"{each.code}  {each.title}")
        return
    entry = CODES.get(code.strip().upper())
    if entry is None:
        raise typer.BadParameter(f"no code {code!r}; `motc explain` lists all", param_hint="CODE")
    example = "\n".join(f"    {line}" if line else "" for line in entry.example.splitlines())
    typer.echo(f"{entry.code} {entry.title}\n\n{entry.explanation}\n\n{example}")
