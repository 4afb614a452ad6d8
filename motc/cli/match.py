"""`motc match`: systems trained side by side on the same data, and the steps each needs to reach the base's loss."""

from __future__ import annotations

import math
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motc.cli import completion
from motc.cli.machine import compiler_errors, need, progress, read_device
from motc.cli.match_sweep import run_sweep
from motc.cli.output import HtmlOption, JsonOption, Stop, print_json, read_path
from motc.files import other_kind, write_whole

if TYPE_CHECKING:
    from motc.ir.model import Model
    from motc.match import Report, Settings

PIPED_WIDTH = 140
PACKAGES = ("matplotlib", "numpy", "safetensors")


def run(
    context: typer.Context,
    data: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="The data folder, as docs/match.md describes it.", show_default=False, parser=read_path
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="For checkpoints and reports; goes on with what is there.",
            show_default=False,
            parser=read_path,
        ),
    ],
    specs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SPEC",
            help="The base, which is dense as a rule, then what is held against it. One alone: against its dense twin.",
            show_default=False,
            parser=read_path,
            autocompletion=completion.specs,
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of each system, from each seed.")] = 1000,
    seeds: Annotated[int, typer.Option(min=1, help="How many: 0, 1, … One may add more later.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Samples a step.")] = 32,
    eval_every: Annotated[int, typer.Option(min=1, help="Steps between held-out losses, and checkpoints.")] = 50,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="At its highest, after the warm-up.")] = 1e-3,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    sweep: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A grid of runs instead, as docs/match.md describes it; the file has the specs and says the rest.",
            show_default=False,
            parser=read_path,
        ),
    ] = None,
    html: HtmlOption = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write losses to DIR/tensorboard while it runs.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Train systems side by side; say in how many of the base's steps, and of its seconds, each is where it is."""
    if sweep is not None:
        _check_alone(context)
        need(PACKAGES, "motc match", "match")
        return run_sweep(sweep, data, out)
    if not specs:
        raise typer.BadParameter("give one, or several, or a grid of runs by --sweep", param_hint="SPEC...")
    if not math.isfinite(learning_rate):
        raise typer.BadParameter(f"{learning_rate} is no finite number", param_hint="--learning-rate")
    models = _models(specs)
    need(PACKAGES, "motc match", "match")
    if tensorboard:
        need(("tensorboard",), "--tensorboard", "tensorboard")
    if html is not None and other_kind(html) == "a directory":  # said now, not after hours of training
        raise Stop(1, f"{html} is a directory")
    import torch

    from motc.match import MatchError, Settings, match_systems, read_data, to_markdown
    from motc.match.board import Board
    from motc.match.page import to_html
    from motc.match.plot import plot
    from motc.match.race import EachStep, nothing

    settings = Settings(
        steps=steps,
        seeds=seeds,
        batch=batch,
        eval_every=eval_every,
        learning_rate=learning_rate,
        device=read_device(device),
        threads=torch.get_num_threads(),
    )

    def write(report: Report) -> None:
        write_whole(out / "report.md", to_markdown(report, _command(specs, data, out, settings)))
        write_whole(out / "report.json", _json(report))
        write_whole(out / "report.png", plot(report))
        if html is not None:
            write_whole(html, to_html(report, _command(specs, data, out, settings)))

    try:
        with compiler_errors(), progress() as notify, ExitStack() as ended:
            notify(0.0, f"reading {data}")
            each_step: EachStep = nothing
            if tensorboard:
                board = Board(out / "tensorboard")
                ended.callback(board.close)
                each_step = board
            report = match_systems(models, read_data(data), settings, out, notify, write, each_step)
    except MatchError as error:
        raise Stop(1, str(error)) from None
    if json:
        print_json(report.to_json())
    else:
        _print(report)
        typer.echo(f"{out / 'report.md'}, report.json, report.png", err=True)


def _check_alone(context: typer.Context) -> None:
    """Raises BadParameter where something is given that the file of a grid says."""
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        given = source is not None and source.name == "COMMANDLINE"
        if given and context.params.get(name) and name not in ("sweep", "data", "out"):
            hint = "SPEC..." if name == "specs" else parameter.opts[0]
            raise typer.BadParameter("it goes not with --sweep, whose file says what is run", param_hint=hint)


def _models(specs: list[Path]) -> dict[str, Model]:
    """The systems by name, the base first. Raises SpecError, or BadParameter where two would have one name."""
    from motc.driver import compile_ir

    if len(specs) == 1:
        model = compile_ir(specs[0])
        if model.name == "dense":
            message = "it is held against its dense twin, called dense, and this one has that name: give two specs"
            raise typer.BadParameter(message, param_hint="SPEC...")
        return {"dense": compile_ir(specs[0], dense=True), model.name: model}
    models: dict[str, Model] = {}
    for spec in specs:
        model = compile_ir(spec)
        if model.name in models:
            raise typer.BadParameter(f"two specs have the name {model.name}", param_hint="SPEC...")
        models[model.name] = model
    return models


def _command(specs: list[Path], data: Path, out: Path, settings: Settings) -> str:
    options = {
        "data": data,
        "out": out,
        "steps": settings.steps,
        "seeds": settings.seeds,
        "batch": settings.batch,
        "eval-every": settings.eval_every,
        "learning-rate": settings.learning_rate,
        "device": settings.device,
    }
    words = ["motc", "match", *map(str, specs)]
    return shlex.join([*words, *(str(word) for name, value in options.items() for word in (f"--{name}", value))])


def _json(report: Report) -> str:
    import json

    return json.dumps(report.to_json(), indent=2, allow_nan=False) + "\n"


def _print(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    from motc.match import spread

    table = Table("system", "modality")
    for title in ("loss", "held-out", "steps to match", "held-out", "time to match", "step time"):
        table.add_column(title, justify="right")
    for name in report.parameters:
        table.add_section()
        for modality in report.modalities:
            losses = [spread(report.final(name, modality, held_out=held_out)) for held_out in (False, True)]
            compared = [spread(report.ratios(name, modality, kind)) for kind in ("training", "held_out")]
            if name != report.base:
                compared.append(spread(report.ratios(name, modality, "training_time")))
                compared.append(spread(report.step_times(name)))
            table.add_row(name, modality, *losses, *compared)
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False, markup=False, emoji=False)
    console.print(table)
    console.print(
        f"steps and time in those of {report.base}; the mean of all seeds, lowest and highest\n"
        f"{report.base} beside itself is where noise puts a system that learns as fast"
    )
    if report.apart:
        console.print(f"{', '.join(report.apart)}: trained apart from {report.base}, so times do not compare")
