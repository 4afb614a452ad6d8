"""`motc match --sweep`: a grid of runs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from motc.cli.machine import compiler_errors, progress
from motc.cli.output import Stop
from motc.files import write_whole

if TYPE_CHECKING:
    from motc.match.grid import Cell, Result


def run_sweep(file: Path, data: Path, out: Path) -> None:
    """Do what is left of the grid; write its report after each run. Raises Stop, and SpecError of a spec."""
    from motc.driver import compile_ir
    from motc.match import MatchError, read_data
    from motc.match.grid import MEASURED, run_grid
    from motc.match.grid_answers import answers
    from motc.match.grid_plot import plot_grid
    from motc.match.grid_report import GridReport, to_markdown
    from motc.match.pairs import recorded
    from motc.match.pairs_plot import plot_pairs
    from motc.match.sweep import read_sweep

    command = shlex.join(["motc", "match", "--sweep", str(file), "--data", str(data), "--out", str(out)])
    try:
        with compiler_errors(), progress() as notify:
            sweep = read_sweep(file)
            models = {name: compile_ir(system.spec, system.overrides) for name, system in sweep.systems.items()}
            notify(0.0, f"reading {data}")
            read = read_data(data)

            def write(results: dict[Cell, Result], wanted: list[Cell]) -> None:
                report = GridReport(sweep=sweep, models=models, data=read, results=results, wanted=wanted)
                page = [to_markdown(report, command), *answers(report)]
                write_whole(out / "report.md", "\n".join([*page, ""]))
                write_whole(out / "report.json", json.dumps(report.to_json(), allow_nan=False) + "\n")
                write_whole(out / "report.png", plot_grid(report))

            def each_run(cell: Cell, results: dict[Cell, Result], wanted: list[Cell]) -> None:
                for name, title in MEASURED.items():
                    file = out / cell.path / name
                    by_step = recorded(file) if file.is_file() else {}
                    if any(by_step.values()):
                        write_whole(file.with_suffix(".png"), plot_pairs(by_step, title))
                write(results, wanted)
                typer.echo(f"{len(results)} of {len(wanted)} runs: {cell}: {results[cell].mean_loss:.4f}", err=True)

            results = run_grid(sweep, models, read, out, notify, each_run)
            write(results, list(results))
    except MatchError as error:
        raise Stop(1, str(error)) from None
    typer.echo(f"{out / 'report.md'}, report.json, report.png", err=True)
