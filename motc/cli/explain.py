"""`motc explain`: what a code of a diagnostic means, or all that is known of a parameter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motc.cli.completion import specs, words_to_explain
from motc.cli.output import DenseOption, JsonOption, SetOption, Stop, overrides, print_json, read_path
from motc.source.codes import CODES

if TYPE_CHECKING:
    from motc.report.parameter import Named


def run(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="CODE|NAME",
            help="A code such as MOT021, or with --spec a parameter or group; none lists all codes.",
            show_default=False,
            autocompletion=words_to_explain,
        ),
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option(
            metavar="SPEC", help="A spec, or weights: whose parameter it is.", parser=read_path, autocompletion=specs
        ),
    ] = None,
    dense: DenseOption = False,
    json: JsonOption = False,
    set_: SetOption = None,
) -> None:
    """Explain a diagnostic's code, or say who uses a parameter of a spec, and which lines of it say so."""
    if spec is not None:
        if what is None:
            raise typer.BadParameter("say which parameter, such as layers.0.attention.q", param_hint="NAME")
        _parameter(what, spec, dense, json, set_)
        return
    if what is None:
        for each in CODES.values():
            typer.echo(f"{each.code}  {each.title}")
        return
    entry = CODES.get(what.strip().upper())
    if entry is None:
        is_code = re.fullmatch(r"(?i)mot\d+", what.strip())
        way_out = "" if is_code else "; a parameter is looked up with --spec SPEC"
        raise typer.BadParameter(f"no code {what!r}; `motc explain` lists all{way_out}", param_hint="CODE")
    example = "\n".join(f"    {line}" if line else "" for line in entry.example.splitlines())
    typer.echo(f"{entry.code} {entry.title}\n\n{entry.explanation}\n\n{example}")


def _parameter(name: str, spec: Path, dense: bool, json: bool, set_: list[str] | None) -> None:
    from motc.cli.show import kept_spec
    from motc.report.parameter import UnknownParameter, named
    from motc.report.subject import Subject
    from motc.weights.stored import is_weights

    if is_weights(spec):
        kept = kept_spec(spec)
        subject = Subject.read(kept.spec, overrides(set_), dense=dense or kept.dense)
    else:
        subject = Subject.read(spec, overrides(set_), dense=dense)
    try:
        copies = named(subject, name)
    except UnknownParameter as error:
        raise Stop(1, str(error)) from None
    if json:
        print_json([{"name": copy.name, **copy.rows()} for copy in copies])
    else:
        typer.echo("\n\n".join(_told(copy) for copy in copies))


def _told(copy: Named) -> str:
    """A name, and under it a line for each thing that is known."""
    lines = [copy.name]
    for label, value in copy.rows().items():
        first, *others = [value] if isinstance(value, str) else value or ["–"]
        lines += [f"  {label:<14} {first}", *(f"  {'':<14} {other}" for other in others)]
    return "\n".join(lines)
