"""What commands share: options, exit codes, diagnostics and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from motc.cli.completion import settings, specs
from motc.files import standard_stream, write_whole
from motc.source import Diagnostic, SourceFile, Span
from motc.source.diagnostic import untold
from motc.source.printable import printable

Setting = int | float | bool | str | None


def read_path(text: str) -> Path:
    """A path on the command line. What stands there is looked at by whoever reads or writes it, who knows more."""
    if not text:
        raise typer.BadParameter("a path is needed, and this one is empty")
    return Path(text)


SpecPath = Annotated[
    Path,
    typer.Argument(
        metavar="SPEC", help="A spec, .mot or .yaml.", show_default=False, parser=read_path, autocompletion=specs
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the spec, such as attention.heads=8.",
        autocompletion=settings,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
StrategyOption = Annotated[
    Literal["sorted", "reference", "grouped", "blend"] | None,
    typer.Option(help="How the model tells modalities apart; default: sorted.", show_default=False),
]
DenseOption = Annotated[bool, typer.Option("--dense", help="Take the spec's dense twin.")]

HtmlOption = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write a page to look at.", show_default=False, parser=read_path),
]
SvgOption = Annotated[
    Path | None,
    typer.Option("--svg", metavar="FILE", help="Write the drawing alone.", show_default=False, parser=read_path),
]


class Stop(Exception):
    """Ends a command with an exit code, and with a line that says why unless its output does."""

    def __init__(self, code: int, message: str = "") -> None:
        self.code = code
        self.message = message
        super().__init__(code, message)


def overrides(pairs: Iterable[str] | None) -> dict[str, Setting]:
    """`--set` as dotted keys to values, read as in a spec. Raises BadParameter, a usage error, without a `key=`."""
    from motc.syntax.scalar import read_word

    settings: dict[str, Setting] = {}
    for pair in pairs or ():
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--set")
        span = Span(SourceFile("--set", pair), len(key) + 1, len(pair))
        settings[key.strip()] = read_word(text.strip(), span)
    return settings


def diagnostic_json(diagnostic: Diagnostic) -> dict[str, Any]:
    """One complaint in types JSON knows; file, line and column are null where it has no place."""
    span = diagnostic.span
    line, column = span.source.line_and_column(span.start) if span else (None, None)
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        "file": span.source.name if span else None,
        "line": line,
        "column": column,
        "help": diagnostic.help,
    }


def fail(message: str, *, as_json: bool = False, way_out: str = "") -> None:
    """Why a command ended, where that is no complaint about a spec: a line on stderr, or as JSON on stdout."""
    if as_json:
        failure = {"code": None, "severity": "error", "message": message, "file": None, "line": None, "column": None}
        print_json({"ok": False, "diagnostics": [{**failure, "help": way_out}]})
    else:
        typer.echo(f"motc: {printable(message)}", err=True)


def report(diagnostics: Iterable[Diagnostic], *, more: int = 0, ok: bool = False, as_json: bool = False) -> None:
    """Complaints, and how many more there are: for people on stderr, or as JSON on stdout."""
    if as_json:
        told = [diagnostic_json(diagnostic) for diagnostic in diagnostics]
        print_json({"ok": ok, "diagnostics": told, **({"more": more} if more else {})})
    else:
        told_here = [diagnostic.render() for diagnostic in diagnostics]
        typer.echo("\n\n".join([*told_here, untold(more)] if more else told_here), err=True)


def print_json(data: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(data, indent=2, allow_nan=False))


def write_picture(path: Path, text: str, *, told: bool) -> None:
    """Write a drawing or a page; a path is printed then if it is to be told, and stdout is not where that went."""
    on_stdout = standard_stream(path) == 1
    write_whole(path, text)
    if told and not on_stdout:
        typer.echo(path)
