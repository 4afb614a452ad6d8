"""`motc init`: a model's weights made of other models' weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from motc.cli.machine import working
from motc.cli.output import JsonOption, SetOption, SpecPath, overrides, print_json, read_path, report

if TYPE_CHECKING:
    from motc.upcycling.plan import InitPlan, Start
    from motc.upcycling.sources import Source

WORDS = {"copy": "copied", "slice": "sliced", "noise": "noised", "repeat": "repeated", "fresh": "fresh", "zero": "zero"}


def run(
    spec: SpecPath,
    from_: Annotated[
        list[str],
        typer.Option(
            "--from",
            metavar="[NAME=]PATH",
            help="Weights to begin from: a file or folder; several have names, which the map says.",
            show_default=False,
        ),
    ],
    map_: Annotated[
        Path,
        typer.Option(
            "--map", metavar="FILE", help="Which parameters begin as what.", show_default=False, parser=read_path
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="The weights to write.", show_default=False, parser=read_path),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say of each tensor what it would begin as; write nothing.")
    ] = False,
    seed: Annotated[int, typer.Option(help="What is drawn follows from it, and from a parameter's name.")] = 0,
    json: JsonOption = False,
    set_: SetOption = None,
) -> None:
    """Make a model's first weights of other models' weights, by a map file (docs/upcycling.md)."""
    from motc import __version__
    from motc.driver import check_spec, final_ir, spec_text
    from motc.ir.identity import semantic_hash
    from motc.source import SourceFile
    from motc.syntax import read_file
    from motc.upcycling.groups import Groups
    from motc.upcycling.plan import plan_init
    from motc.upcycling.settings import other_settings
    from motc.upcycling.sources import open_source
    from motc.upcycling.statements import read_statements
    from motc.weights.kept import Kept, metadata_of

    if (out is None) != dry_run:
        raise typer.BadParameter("say where weights go, or --dry-run", param_hint="-o")
    values = overrides(set_)
    checked = check_spec(spec, values)
    target = Groups(final_ir(checked), checked.spec)
    statements = read_statements(read_file(map_))
    sources = {}
    for text in from_:
        name, path = _named(text)
        source = open_source(path)
        name = name or source.groups.model.name
        if name in sources:
            raise typer.BadParameter(f"two sources are called {name}: --from NAME=PATH", param_hint="--from")
        sources[name] = source
    groups = {name: source.groups for name, source in sources.items()}
    plan = plan_init(target, statements, groups)
    warnings = other_settings(plan, target, groups)
    if warnings:
        report(warnings, ok=True)
    if out is not None:
        from motc.loading import instantiate
        from motc.upcycling.make import write_planned

        own = SourceFile(f"{target.model.name}.mot", spec_text(checked))
        kept = Kept(spec=own, dense=False, semantic_hash=semantic_hash(target.model), version=__version__)
        with working(f"writing {out}"):
            write_planned(out, plan, sources, instantiate(target.model, device="meta"), metadata_of(kept), seed)
    if json:
        print_json({"ok": True, **_told(plan), "warnings": [each.message for each in warnings]})
    else:
        _print(plan, sources, every=dry_run)
        if out is not None:
            typer.echo(out)


def _named(text: str) -> tuple[str, Path]:
    """The name of a source, empty where none is given, and its path."""
    match = re.fullmatch(r"([A-Za-z]\w*)=(.+)", text)
    return (match[1], Path(match[2])) if match and not Path(text).exists() else ("", read_path(text))


def _told(plan: InitPlan) -> dict[str, Any]:
    tensors = {
        start.parameter: {
            "is": WORDS[start.statement.verb],
            "shape": list(start.shape),
            **({"from": start.source, "tensor": start.tensor} if start.source else {}),
        }
        for start in plan.starts
    }
    return {"tensors": tensors, "unused": {name: list(those) for name, those in plan.unused.items()}}


def _print(plan: InitPlan, sources: dict[str, Source], *, every: bool) -> None:
    """A line for each tensor, if wanted, and one for each thing that parameters are."""
    from math import prod

    width = max(len(start.parameter) for start in plan.starts)
    totals: dict[str, tuple[int, int]] = {}
    for start in plan.starts:
        word = WORDS[start.statement.verb]
        if every:
            line = f"{word:<8} {start.parameter:<{width}} {list(start.shape)!s:<14} {_origin(start)}"
            typer.echo(line.rstrip())
        key = f"{word} from {start.source}" if start.source else word
        tensors, numbers = totals.get(key, (0, 0))
        totals[key] = (tensors + 1, numbers + prod(start.shape))
    for name, those in plan.unused.items():
        for tensor in those if every else ():
            typer.echo(f"unused   {name}: {tensor}")
        totals[f"unused of {name}"] = (len(those), sum(prod(sources[name].groups.shapes[each]) for each in those))
    for key, (tensors, numbers) in totals.items():
        typer.echo(f"{tensors:>6,} tensors, {numbers:>15,} parameters {key}")


def _origin(start: Start) -> str:
    return f"{start.source}: {start.tensor}" if start.source else ""
