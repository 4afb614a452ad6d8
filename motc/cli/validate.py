"""`motc validate`: the generated model against hand-written references and its dense twin."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from motc.cli.machine import compiler_errors, working
from motc.cli.output import JsonOption, SetOption, SpecPath, Stop, StrategyOption, overrides, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from motc.ir.execution import Strategy
    from motc.schema import Checked
    from motc.validate import Report


def run(
    spec: SpecPath,
    full: Annotated[bool, typer.Option("--full", help="At the spec's own size; default: a small one.")] = False,
    json: JsonOption = False,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the random parameters and batches.")] = 0,
    strategy: StrategyOption = None,
    set_: SetOption = None,
) -> None:
    """Check the generated model, in float64, against references, its dense twin and the laws of padding and packing."""
    from motc.driver import check_spec, final_ir

    if strategy == "grouped":
        reason = "grouped products have no float64, in which laws are checked: take another, or `motc bench --pack`"
        raise typer.BadParameter(reason, param_hint="--strategy")
    checked = check_spec(spec, overrides(set_))
    final_ir(checked, strategy=strategy)  # mistakes are told of the spec as it is written
    report = _validate(checked, full, seed, strategy)
    if json:
        laws = [
            {
                "name": law.name,
                "ok": law.ok,
                "max_deviation": law.max_deviation if math.isfinite(law.max_deviation) else None,
                "tolerance": law.tolerance,
            }
            for law in report.laws
        ]
        print_json({"ok": report.ok, "laws": laws, "skipped": list(report.skipped)})
    else:
        _print_report(report)
    if not report.ok:
        raise Stop(1)


def _validate(checked: Checked, full: bool, seed: int, strategy: Strategy | None) -> Report:
    with compiler_errors(), working("validating"):
        import torch

        from motc.driver import final_ir
        from motc.loading import instantiate
        from motc.validate import Unsettled, validate
        from motc.validate.reduce import reduce

        sized = checked if full else reduce(checked)
        sparse = final_ir(sized, strategy=strategy)
        dense = final_ir(sized, dense=True)
        ours, theirs = (instantiate(model, dtype=torch.float64, seed=seed) for model in (sparse, dense))
        try:
            return validate(sparse, dense, ours, theirs, seed=seed)
        except Unsettled as error:
            way_out = "validate without --full" if full else "try fewer layers or experts (--set), or another --seed"
            raise Stop(1, f"{error} (docs/numerics.md, Ties); {way_out}") from None


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def _print_report(report: Report) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("law")
    for title in ("deviation", "tolerance"):
        table.add_column(title, justify="right")
    table.add_column("")
    for law in report.laws:
        verdict = Text("pass", "green") if law.ok else Text("FAIL", "bold red")
        table.add_row(law.name, f"{law.max_deviation:.1e}", f"{law.tolerance:.1e}", verdict)
    console = _console()
    console.print(table)
    for skipped in report.skipped:
        console.print(f"skipped  {skipped}")
    passed = sum(law.ok for law in report.laws)
    console.print(f"{passed} of {len(report.laws)} laws hold")
